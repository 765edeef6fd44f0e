#[pyo3_await_tokio::test]
#[test]
fn once() {}

fn main() {}
