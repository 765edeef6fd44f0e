//! What tests leave behind.

use pyo3::prelude::*;

use crate::{python, run_tests, support::Case};

pub(crate) const CASES: &[Case] =
    cases![tasks_left_behind_are_cancelled_and_named, a_task_that_refuses_to_end_does_not_stop_the_run,];

#[pyo3_await_tokio::test]
async fn a_task() -> PyResult<()> {
    python(
        c"
import asyncio
async def forgotten():
    try:
        await asyncio.sleep(3600)
    finally:
        print('it was cancelled', flush=True)
async def main():
    global task
    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0)
",
    )
    .await?;
    Ok(())
}

/// What is cancelled already is nobody's mistake, and may take its time.
#[pyo3_await_tokio::test]
async fn nothing() -> PyResult<()> {
    use std::{pin::pin, task::Poll};
    let mut sleep = pin!(python(
        c"
import asyncio, time
async def main():
    try:
        await asyncio.gather(asyncio.sleep(3600), asyncio.create_task(asyncio.sleep(3600)))
    finally:
        # Long enough that somebody looks meanwhile.
        for _ in range(10):
            time.sleep(0.002)
            await asyncio.sleep(0)
"
    ));
    std::future::poll_fn(|cx| {
        assert!(sleep.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    python(c"import asyncio\nasync def main(): await asyncio.sleep(0.01)").await?;
    Ok(())
}

#[pyo3_await_tokio::test]
async fn a_stubborn_task() -> PyResult<()> {
    python(
        c"
import asyncio
async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
async def main():
    global task
    task = asyncio.create_task(stubborn(), name='stubborn')
    await asyncio.sleep(0)
",
    )
    .await?;
    Ok(())
}

fn tasks_left_behind_are_cancelled_and_named() {
    let run = run_tests(&["left::", "--skip", "stubborn"]);
    run.exits_with(0).prints("2 passed;").prints("it was cancelled\n");
    let (during, _after) = run.stdout.split_once("test result:").unwrap_or_default();
    run.expect("it does not live until the end of the run", during.contains("it was cancelled"));
    run.complains("test left::a_task left Python tasks behind, now cancelled:\n  <Task pending ")
        .complains("forgotten()");
    run.expect("there is one of them", run.stderr.matches("<Task").count() == 1);
    run.expect("only that test has left one", !run.stderr.contains("left::nothing"));
}

fn a_task_that_refuses_to_end_does_not_stop_the_run() {
    run_tests(&["stubborn"]).exits_with(0).prints("1 passed;").complains("name='stubborn'");
}
