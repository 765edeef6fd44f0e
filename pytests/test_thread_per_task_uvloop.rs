//! The cases on one thread for each future, under uvloop.

mod common;

use pyo3::PyResult;
use pyo3_await_example_runtimes::thread_per_task as adapter;

type Subject = pyo3_await_pytests::custom::ThreadPerTask;

#[pyo3_await::main(crate = adapter, event_loop = "uvloop")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
