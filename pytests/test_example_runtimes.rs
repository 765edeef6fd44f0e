//! The runtimes of one's own that the guide shows, in processes that fork.

use std::process::ExitCode;

use pyo3::prelude::*;
use pyo3_await::RuntimeExt;
use pyo3_await_example_runtimes::{pool, thread_per_core, thread_per_task};
use pyo3_await_pytests::program::{self, Program, in_child};

const PROGRAMS: &[Program] = &[
    ("pool", || fork(pool::current_runtime, true)),
    ("thread_per_core", || fork(thread_per_core::current_runtime, true)),
    ("thread_per_task", || fork(thread_per_task::current_runtime, false)),
];

fn main() -> ExitCode {
    program::main(PROGRAMS, tests)
}

#[pyo3_await_tokio::main]
async fn tests() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn a_forked_child_has_a_pool_of_its_own() {
    program::run("pool");
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn a_forked_child_has_cores_of_its_own() {
    program::run("thread_per_core");
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn a_forked_child_starts_threads() {
    program::run("thread_per_task");
}

/// Uses the current runtime in a process and in its child, and tries that of the process in the child.
fn fork<R: RuntimeExt>(current: fn() -> PyResult<R>, has_threads: bool) {
    Python::initialize();
    let answer = |runtime: &R| Python::attach(|py| runtime.run(py, async { Ok(42) }));
    let parents = current().expect("it starts");
    assert_eq!(answer(&parents).expect("its threads are here"), 42);
    in_child(|| {
        match answer(&parents) {
            Ok(answer) => assert!(!has_threads && answer == 42),
            Err(error) => assert!(has_threads && error.to_string().contains("left behind by os.fork()"), "{error}"),
        }
        assert_eq!(answer(&current()?)?, 42);
        Ok(())
    })
    .expect("Python forks");
    assert_eq!(answer(&parents).expect("its threads are still here"), 42);
}
