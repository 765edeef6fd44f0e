#[pyo3_await_tokio::main("multi_thread")]
async fn main() {}
