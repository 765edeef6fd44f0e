#[pyo3_await_tokio::main]
async fn main<T: Default>() {
    drop(T::default());
}
