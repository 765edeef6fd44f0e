#[pyo3_await_async_std::main(flavor = "current_thread")]
async fn main() {}
