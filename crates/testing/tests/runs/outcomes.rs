//! One test of each outcome, and how they are counted.

use pyo3::prelude::*;

use crate::{python, run_tests, support::Case};

pub(crate) const CASES: &[Case] = cases![each_outcome_is_counted,];

#[pyo3_await_tokio::test]
async fn passes() {}

#[pyo3_await_tokio::test]
async fn passes_in_python() -> PyResult<()> {
    python(c"import asyncio\nasync def main(): await asyncio.sleep(0.01)").await?;
    Ok(())
}

#[pyo3_await_tokio::test]
fn passes_in_a_thread() -> Result<(), String> {
    Ok(())
}

#[pyo3_await_tokio::test]
async fn panics() {
    tokio::task::yield_now().await;
    panic!("the {} panicked", "test");
}

#[pyo3_await_tokio::test]
async fn raises() -> PyResult<()> {
    python(c"async def main():\n    raise ValueError('out of range')").await?;
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "200ms")]
async fn hangs() {
    std::future::pending::<()>().await;
}

#[pyo3_await_tokio::test]
#[ignore = "for a reason"]
async fn is_ignored() {}

#[pyo3_await_tokio::test]
#[cfg_attr(all(), ignore)]
fn is_ignored_for_no_reason() {}

#[pyo3_await_tokio::test]
#[should_panic(expected = "as expected")]
async fn panics_as_expected() {
    panic!("it panics as expected");
}

fn each_outcome_is_counted() {
    let run = run_tests(&["outcomes::"]);
    run.exits_with(101).prints("running 9 tests\n");
    run.prints("test result: FAILED. 4 passed; 3 failed; 2 ignored; 0 measured;");
    for line in [
        "test outcomes::hangs                    ... FAILED",
        "test outcomes::is_ignored               ... ignored (for a reason)",
        "test outcomes::is_ignored_for_no_reason ... ignored\n",
        "test outcomes::panics                   ... FAILED",
        "test outcomes::panics_as_expected       ... ok",
        "test outcomes::passes                   ... ok",
        "test outcomes::passes_in_a_thread       ... ok",
        "test outcomes::passes_in_python         ... ok",
        "test outcomes::raises                   ... FAILED",
    ] {
        run.prints(line);
    }
}
