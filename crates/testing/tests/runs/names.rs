//! Tests whose names are also those of something in what the macro makes.

use crate::{run_tests, support::Case};

pub(crate) const CASES: &[Case] = cases![any_name_will_do,];

#[pyo3_await_tokio::test]
async fn start() {}

mod blocking {
    #[pyo3_await_tokio::test]
    fn start() {}
}

#[allow(non_snake_case, reason = "it is the name of a static")]
mod capitals {
    #[pyo3_await_tokio::test]
    async fn TEST() {}
}

fn any_name_will_do() {
    run_tests(&["names::"]).exits_with(0).prints("3 passed;");
}
