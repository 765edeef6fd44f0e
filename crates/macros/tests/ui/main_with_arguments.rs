#[pyo3_await_tokio::main]
async fn main(arguments: Vec<String>) {
    drop(arguments);
}
