struct Tests;

impl Tests {
    #[pyo3_await_tokio::test]
    async fn any(self) {}
}

fn main() {
    // The method is still there.
    drop(Tests.any());
}
