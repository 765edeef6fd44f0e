#[pyo3_await_tokio::test]
fn any<'a>() {
    let _: &'a str = "";
}

fn main() {}
