#[pyo3_await::main(crate = pyo3_await_tokio, flavor = "current_thread")]
async fn main() {}
