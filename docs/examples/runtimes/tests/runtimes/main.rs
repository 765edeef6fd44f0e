//! The runtimes of this package, and all adapters beside each other: one process, and one event loop.

mod adapters;
mod thread_per_task;
mod thread_per_core;
mod pool;
mod guide;

#[pyo3_await_tokio::main]
async fn main() -> pyo3::PyResult<()> {
    pyo3_await_tokio::testing::main().await
}
