#[pyo3_await_tokio::main]
async fn main()
where
    String: Clone,
{
}
