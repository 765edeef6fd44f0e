#[pyo3_await_tokio::main(flavor)]
async fn main() {}
