#[pyo3_await_tokio::main(event_loop = uvloop)]
async fn main() {}
