#[pyo3_await_tokio::test(event_loop = "uvloop")]
async fn sleeps() {}

fn main() {}
