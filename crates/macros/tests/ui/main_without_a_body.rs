#[pyo3_await_tokio::main]
async fn run();

fn main() {}
