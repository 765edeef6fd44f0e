#[pyo3_await_tokio::main(crate = "pyo3_await_tokio")]
async fn main() {}
