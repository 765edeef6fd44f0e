//! Tests that do not end by themselves.

use std::time::Duration;

use pyo3::prelude::*;

use crate::{
    python,
    support::{Case, interrupted, interruptible, run, subject},
};

pub(crate) const CASES: &[Case] = cases![
    a_test_out_of_time_does_not_stop_the_others,
    a_runtime_without_a_free_thread_ends,
    whoever_keeps_the_only_thread_is_named,
    the_environment_has_a_timeout,
    ctrl_c_ends_a_run,
];

#[pyo3_await_tokio::test(timeout = "1s")]
async fn in_rust() {
    struct Told;

    impl Drop for Told {
        fn drop(&mut self) {
            println!("dropped");
        }
    }

    let _told = Told;
    std::future::pending::<()>().await;
}

#[pyo3_await_tokio::test(timeout = "1s")]
async fn in_python() -> PyResult<()> {
    python(
        c"
import asyncio
async def main():
    try:
        await asyncio.sleep(3600)
    finally:
        print('cancelled')
",
    )
    .await?;
    Ok(())
}

const LEAVES_A_TASK: &std::ffi::CStr = c"
import asyncio
async def main():
    global task
    task = asyncio.create_task(asyncio.sleep(3600))
";

/// What was begun is cleared up even when it does not go quietly.
#[pyo3_await_tokio::test(timeout = "1s")]
async fn with_a_bomb() -> PyResult<()> {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    python(LEAVES_A_TASK).await?;
    let _bomb = Bomb;
    std::future::pending().await
}

/// So it is when the end comes after all.
#[pyo3_await_tokio::test(timeout = "1s")]
async fn too_late() -> PyResult<()> {
    python(LEAVES_A_TASK).await?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "1s")]
async fn in_a_poll() {
    std::thread::sleep(Duration::from_secs(3600));
}

#[pyo3_await_tokio::test(timeout = "1s")]
fn in_a_thread() {
    std::thread::sleep(Duration::from_secs(3600));
}

#[pyo3_await_tokio::test]
async fn without_a_timeout() {
    std::future::pending::<()>().await;
}

#[pyo3_await_tokio::test]
async fn not_at_all() {}

fn a_test_out_of_time_does_not_stop_the_others() {
    // Two of the tests keep a thread of the runtime.
    let mut on_four_threads = subject("harness");
    on_four_threads.env("TOKIO_WORKER_THREADS", "4");
    let run = run(on_four_threads.args(["endless::", "--skip", "without", "--test-threads", "1"]));
    run.exits_with(101).prints("1 passed; 6 failed;").prints("test endless::not_at_all  ... ok");
    run.expect("Rust is told", run.stdout.contains("dropped\n"));
    run.expect("Python is told", run.stdout.contains("cancelled\n"));
    run.complains("test endless::with_a_bomb left Python tasks behind");
    run.complains("test endless::too_late left Python tasks behind");
}

/// The main function waits for a thread, too.
fn a_runtime_without_a_free_thread_ends() {
    let run = run(subject("one_thread").args(["in_a_poll"]));
    run.exits_with(101).prints("timed out after 1s").complains("test endless::in_a_poll keeps a thread of the runtime");
}

/// Nobody waits for ever for a thread, not even who has no timeout.
fn whoever_keeps_the_only_thread_is_named() {
    let skipped = ["in_rust", "in_python", "in_a_thread", "bomb", "too_late"];
    let mut run_on_one_thread = subject("one_thread");
    run_on_one_thread.args(["endless::", "--test-threads", "1"]);
    let run = run(run_on_one_thread.args(skipped.iter().flat_map(|test| ["--skip", test])));
    run.exits_with(101).prints("0 passed; 3 failed;").prints("timed out after 1s");
    let named = "its runtime has no free thread: test endless::in_a_poll keeps one and is out of time";
    run.expect("both others are told", run.stdout.matches(named).count() == 2);
}

fn the_environment_has_a_timeout() {
    let timed =
        |timeout: &str| run(subject("harness").env("PYO3_AWAIT_TEST_TIMEOUT", timeout).arg("without_a_timeout"));
    timed("300ms").exits_with(101).prints("timed out after 300ms");
    let refused = timed("300");
    refused.exits_with(1).complains("PYO3_AWAIT_TEST_TIMEOUT is '300'");
    refused.expect("nothing is run", !refused.stdout.contains("running"));
    let own = run(subject("harness").env("PYO3_AWAIT_TEST_TIMEOUT", "1m").arg("endless::in_rust"));
    own.exits_with(101).prints("timed out after 1s");
}

fn ctrl_c_ends_a_run() {
    let run = interrupted(interruptible("prepared").arg("endless::without_a_timeout"), "running 1 test");
    run.exits_with(130).complains("KeyboardInterrupt").prints("atexit\n");
}
