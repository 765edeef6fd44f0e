#[pyo3_await_smol::test(worker_threads = 4)]
async fn sleeps() {}

fn main() {}
