//! Tests that end the program.

use pyo3::prelude::*;

use crate::{
    python, run_tests,
    support::{Case, run, subject},
};

pub(crate) const CASES: &[Case] = cases![
    a_run_that_python_ends_has_failed,
    the_exit_code_of_an_error_is_kept,
    a_run_that_was_forgotten_has_failed,
    a_run_that_is_not_heeded_has_its_result,
    a_run_that_did_not_begin_has_failed,
];

/// It runs no tests.
#[pyo3_await_tokio::main]
pub(crate) async fn main() {}

/// It succeeds, whatever comes of the tests.
#[pyo3_await_tokio::main]
pub(crate) async fn heedless() {
    drop(pyo3_await_tokio::testing::main().await);
}

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

/// What the harness says then.
const ENDED: &str = "ended by something else than the end of its tests";

fn a_run_that_python_ends_has_failed() {
    run_tests(&["ended::well"]).exits_with(101).complains(ENDED);
}

fn the_exit_code_of_an_error_is_kept() {
    run_tests(&["ended::badly"]).exits_with(4).complains(ENDED);
}

fn a_run_that_was_forgotten_has_failed() {
    run(&mut subject("forgetful")).exits_with(101).complains("no test has run").complains("`testing::main().await`");
}

fn a_run_that_is_not_heeded_has_its_result() {
    run(subject("heedless").arg("outcomes::raises")).exits_with(101).prints("1 failed;").complains(ENDED);
    let passed = run(subject("heedless").arg("outcomes::passes"));
    passed.exits_with(0).expect("there is nothing to complain of", passed.stderr.is_empty());
}

fn a_run_that_did_not_begin_has_failed() {
    let run = run(subject("heedless").env("PYO3_AWAIT_TEST_TIMEOUT", "soon"));
    run.exits_with(101).complains("no test has run");
}
