#[pyo3_await_tokio::main]
fn main() {}
