//! The cases on tokio's scheduler with one thread, under uvloop.

mod common;

use pyo3::PyResult;
use pyo3_await_tokio as adapter;

type Subject = pyo3_await_pytests::tokio::CurrentThread;

#[adapter::main(flavor = "current_thread", event_loop = "uvloop")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
