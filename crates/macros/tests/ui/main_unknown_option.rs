#[pyo3_await_tokio::main(flavour = "multi_thread")]
async fn main() {}
