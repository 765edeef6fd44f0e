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

#[allow(non_upper_case_globals, reason = "it could be taken for a variable of the macro's")]
mod constants {
    const start: u8 = 1;

    #[pyo3_await_tokio::test]
    async fn beside_a_constant() {
        assert_eq!(start, 1);
    }

    #[pyo3_await_tokio::test]
    fn beside_a_constant_in_a_thread() {
        assert_eq!(start, 1);
    }
}

fn any_name_will_do() {
    run_tests(&["names::"]).exits_with(0).prints("5 passed;");
}
