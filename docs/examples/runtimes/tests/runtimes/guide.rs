//! The guide shows what is tested here.

const GUIDE: &str = include_str!("../../../../src/runtimes.md");

#[pyo3_await_tokio::test(timeout = "60s")]
fn the_thread_per_task_runtime_of_the_guide_is_this_one() {
    let module = include_str!("../../src/thread_per_task.rs");
    let (_, code) = module.split_once("\n\n").expect("the module's documentation comes first");
    let (code, _) = code.split_once("\npub use pyo3_await_testing").expect("the harness comes last");
    assert!(GUIDE.contains(code), "docs/src/runtimes.md does not have this as it is:\n{code}");
}

/// What the guide shows without compiling it.
#[pyo3_await_tokio::test(timeout = "60s")]
fn the_other_runtimes_of_the_guide_are_these() {
    let modules = [include_str!("../../src/thread_per_core.rs"), include_str!("../../src/pool.rs")];
    let mut shown = [false; 2];
    for block in GUIDE.split("```rust,ignore\n").skip(1) {
        let (code, _) = block.split_once("```").expect("the block ends");
        let found = modules.iter().position(|module| module.contains(code));
        shown[found.unwrap_or_else(|| panic!("docs/src/runtimes.md has this, and no example does:\n{code}"))] = true;
    }
    assert_eq!(shown, [true; 2]);
}
