#[pyo3_await_tokio::test]
#[ignore]
#[ignore = "why"]
fn ignored() {}

fn main() {}
