#[pyo3_await_tokio::test(timeout = "0s")]
async fn sleeps() {}

fn main() {}
