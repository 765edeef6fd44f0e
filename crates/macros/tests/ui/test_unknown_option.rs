#[pyo3_await_tokio::test(start_paused = true)]
async fn sleeps() {}

fn main() {}
