//! The cases on one compio runtime for each core, under asyncio.

mod common;

use pyo3::PyResult;
use pyo3_await_example_runtimes::thread_per_core as adapter;

type Subject = pyo3_await_pytests::custom::ThreadPerCore;

#[pyo3_await::main(crate = adapter, event_loop = "asyncio")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
