#[pyo3_await_tokio::main]
async unsafe fn main() {}
