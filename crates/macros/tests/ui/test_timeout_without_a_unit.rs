#[pyo3_await_tokio::test(timeout = "5")]
async fn sleeps() {}

fn main() {}
