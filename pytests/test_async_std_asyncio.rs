//! The cases on async-std's runtime, under asyncio.

mod common;

use pyo3::PyResult;
use pyo3_await_async_std as adapter;

type Subject = pyo3_await_pytests::async_std::AsyncStd;

#[adapter::main(event_loop = "asyncio")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
