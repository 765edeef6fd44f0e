//! The cases on tokio's scheduler with several threads, under asyncio.

mod common;

use pyo3::PyResult;
use pyo3_await_tokio as adapter;

type Subject = pyo3_await_pytests::tokio::MultiThread;

#[adapter::main(event_loop = "asyncio")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
