#[pyo3_await_tokio::main(flavor = multi_thread)]
async fn main() {}
