//! The cases on async-std's runtime, under asyncio.

mod common;

use async_std::task;
use pyo3::prelude::*;
use pyo3_await_async_std as adapter;

type Subject = pyo3_await_pytests::async_std::AsyncStd;

#[adapter::main(event_loop = "asyncio")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}

#[adapter::test(timeout = "60s")]
fn the_future_of_async_stds_own_main_may_block() {
    let seven = task::block_on(async { Python::attach(|py| adapter::run(py, async { Ok(7) })) });
    assert_eq!(seven.expect("it runs"), 7);
    let seven = task::block_on(async { Python::attach(|py| adapter::block_on(py, async { Ok(7) })) });
    assert_eq!(seven.expect("it is ready"), 7);
}

#[adapter::test(timeout = "60s")]
fn a_task_of_async_stds_own_may_not() {
    let refused = task::spawn(async { Python::attach(|py| adapter::block_on(py, async { Ok(7) })) });
    let message = task::block_on(refused).expect_err("it is refused").to_string();
    assert!(message.contains("block_on was called by a task of the Rust runtime"), "{message}");
}
