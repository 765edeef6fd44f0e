#[pyo3_await_tokio::test]
#[should_panic(message = "part of it")]
fn panics() {}

fn main() {}
