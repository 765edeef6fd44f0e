#[pyo3_await_tokio::main]
async extern "C" fn main() {}
