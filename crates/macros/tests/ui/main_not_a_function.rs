#[pyo3_await_tokio::main]
struct Main;

fn main() {}
