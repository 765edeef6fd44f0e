#[pyo3_await_tokio::test]
mod tests {}

fn main() {}
