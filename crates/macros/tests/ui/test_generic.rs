#[pyo3_await_tokio::test]
fn any<T: Default>() {
    drop(T::default());
}

fn main() {}
