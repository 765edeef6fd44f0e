#[pyo3_await::test]
async fn sleeps() {}

fn main() {}
