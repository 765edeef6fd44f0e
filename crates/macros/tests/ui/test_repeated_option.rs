#[pyo3_await_tokio::test(timeout = "5s", timeout = "6s")]
async fn sleeps() {}

fn main() {}
