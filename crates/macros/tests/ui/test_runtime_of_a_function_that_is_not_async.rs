#[pyo3_await_tokio::test(flavor = "current_thread")]
fn sleeps() {}

fn main() {}
