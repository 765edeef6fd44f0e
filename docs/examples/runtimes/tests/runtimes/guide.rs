//! The guide shows what is tested here.

#[pyo3_await_tokio::test(timeout = "60s")]
fn the_thread_per_task_runtime_of_the_guide_is_this_one() {
    let module = include_str!("../../src/thread_per_task.rs");
    let guide = include_str!("../../../../src/runtimes.md");
    let (_, code) = module.split_once("\n\n").expect("the module's documentation comes first");
    let (code, _) = code.split_once("\npub use pyo3_await_testing").expect("the harness comes last");
    assert!(guide.contains(code), "docs/src/runtimes.md does not have this as it is:\n{code}");
}
