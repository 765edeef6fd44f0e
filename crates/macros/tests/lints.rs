//! Levels of lints that stand beside `#[main]` hold for what others see of the function, and for its body.

#![deny(warnings, missing_docs)]

#[pyo3_await_tokio::main]
#[allow(non_snake_case, missing_docs)]
pub async fn Allowed() {
    let Local = String::new();
    drop(Local);
}

/// Only the name is not as it should be.
#[pyo3_await_tokio::main]
#[expect(non_snake_case)]
pub async fn Expected() {}

#[test]
fn the_functions_compile() {
    let _: [fn() -> std::process::ExitCode; 2] = [Allowed, Expected];
}
