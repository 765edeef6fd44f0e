#[pyo3_await_tokio::test]
#[pyo3_await_tokio::test]
async fn once() {}

fn main() {}
