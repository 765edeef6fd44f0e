#[pyo3_await_tokio::test]
extern "C" fn any() {}

fn main() {}
