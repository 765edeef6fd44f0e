#[pyo3_await_tokio::main(worker_threads = 2 flavor = "multi_thread")]
async fn main() {}
