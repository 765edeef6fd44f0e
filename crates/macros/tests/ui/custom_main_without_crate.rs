#[pyo3_await::main]
async fn main() {}
