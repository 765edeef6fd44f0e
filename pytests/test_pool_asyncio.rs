//! The cases on a pool that the application has, under asyncio.

mod common;

use pyo3::PyResult;
use pyo3_await_example_runtimes::pool as adapter;

type Subject = pyo3_await_pytests::custom::Pool;

#[pyo3_await::main(crate = adapter, event_loop = "asyncio")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
