//! Tests that end the program.

use pyo3::prelude::*;

use crate::{
    python, run_tests,
    support::{Case, run, subject},
};

pub(crate) const CASES: &[Case] =
    cases![a_run_that_python_ends_has_failed, the_exit_code_of_an_error_is_kept, a_run_that_was_forgotten_has_failed,];

/// It runs no tests.
#[pyo3_await_tokio::main]
pub(crate) async fn main() {}

#[pyo3_await_tokio::test]
async fn well() -> PyResult<()> {
    python(c"import sys\nasync def main(): sys.exit(0)").await?;
    Ok(())
}

#[pyo3_await_tokio::test]
async fn badly() -> PyResult<()> {
    python(c"import sys\nasync def main(): sys.exit(4)").await?;
    Ok(())
}

fn a_run_that_python_ends_has_failed() {
    run_tests(&["ended::well"]).exits_with(101).complains("before all tests had run");
}

fn the_exit_code_of_an_error_is_kept() {
    run_tests(&["ended::badly"]).exits_with(4).complains("before all tests had run");
}

fn a_run_that_was_forgotten_has_failed() {
    run(&mut subject("forgetful")).exits_with(101).complains("no test has run").complains("`testing::main().await`");
}
