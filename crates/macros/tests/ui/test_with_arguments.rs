#[pyo3_await_tokio::test]
async fn adds(a: i32, b: i32) {
    let _ = a + b;
}

fn main() {
    // The function is still there.
    drop(adds(1, 2));
}
