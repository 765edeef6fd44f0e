#[pyo3_await_tokio::main(event_loop = "trio")]
async fn main() {}
