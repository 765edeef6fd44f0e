#[pyo3_await_tokio::test(worker_threads = 4, flavor = "current_thread")]
async fn sleeps() {}

fn main() {}
