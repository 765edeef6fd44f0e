//! Tests that keep all others from running.

use std::time::Duration;

use pyo3::prelude::*;

use crate::{python, run_tests, support::Case};

pub(crate) const CASES: &[Case] = cases![whoever_blocks_the_event_loop_is_named, whoever_holds_the_gil_is_named,];

#[pyo3_await_tokio::test(timeout = "1s")]
async fn on_the_loop() -> PyResult<()> {
    python(c"import time\nasync def main(): time.sleep(3600)").await?;
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "1s")]
async fn with_the_gil() {
    Python::attach(|_| std::thread::sleep(Duration::from_secs(3600)));
}

#[pyo3_await_tokio::test(timeout = "1s")]
fn in_a_thread_with_the_gil() {
    Python::attach(|_| std::thread::sleep(Duration::from_secs(3600)));
}

/// Runs out of time while another one is in the way.
#[pyo3_await_tokio::test(timeout = "1s")]
async fn behind() {
    std::future::pending::<()>().await;
}

fn whoever_blocks_the_event_loop_is_named() {
    let run = run_tests(&["stuck::", "--skip", "gil"]);
    run.exits_with(101).complains("test stuck::on_the_loop blocks the event loop's thread");
    run.complains("File \"subject.py\", line 2, in main");
    run.expect("others are not to blame", !run.stderr.contains("behind"));
}

fn whoever_holds_the_gil_is_named() {
    for (name, other) in [("with_the_gil", "in_a_thread"), ("in_a_thread_with_the_gil", "stuck::with")] {
        let run = run_tests(&["stuck::", "--skip", "on_the_loop", "--skip", other]);
        run.exits_with(101).complains(&format!("test stuck::{name} blocks the event loop's thread or holds the GIL"));
        run.expect("others are not to blame", !run.stderr.contains("behind"));
    }
}
