#[pyo3_await_tokio::test]
#[ignore(reason = "why")]
fn ignored() {}

fn main() {}
