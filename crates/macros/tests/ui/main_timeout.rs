#[pyo3_await_tokio::main(timeout = "5s")]
async fn main() {}
