//! The harness, by runs of it.
//!
//! Each module holds tests that are run, and the cases that look at such a run from outside.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
mod command_line;
mod context;
mod ended;
mod endless;
mod failures;
mod left;
mod names;
mod outcomes;
mod runtimes;
mod stuck;
mod threads;

use std::process::ExitCode;

use pyo3::prelude::*;
use support::{Case, Run, Subject, run, subject};

fn main() -> ExitCode {
    let subjects: &[Subject] = &[
        ("forgetful", ended::main),
        ("harness", harness),
        ("heedless", ended::heedless),
        ("one_thread", one_thread),
        ("prepared", prepared),
        ("threads", on_threads),
        ("uvloop", on_uvloop),
    ];
    let cases = [
        outcomes::CASES,
        failures::CASES,
        command_line::CASES,
        runtimes::CASES,
        context::CASES,
        left::CASES,
        names::CASES,
        ended::CASES,
        endless::CASES,
        stuck::CASES,
        END,
    ];
    support::main(subjects, &cases.concat())
}

/// How any run ends.
const END: &[Case] = cases![the_end_is_that_of_a_python_program];

#[pyo3_await_tokio::main]
async fn harness() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

#[pyo3_await_tokio::main(flavor = "current_thread")]
async fn one_thread() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

#[pyo3_await_tokio::main(event_loop = "uvloop")]
async fn on_uvloop() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

/// Sets a context variable for all tests, and wants to be told of the end.
#[pyo3_await_tokio::main]
async fn prepared() -> PyResult<()> {
    Python::attach(|py| {
        context::set(py, "main")?;
        let handler = py.eval(c"lambda: print('atexit')", None, None)?;
        py.import("atexit")?.call_method1("register", (handler,))?;
        PyResult::Ok(())
    })?;
    pyo3_await_tokio::testing::main().await
}

#[pyo3_await::main(crate = threads)]
async fn on_threads() -> PyResult<()> {
    threads::testing::main().await
}

/// Awaits a coroutine function `main()` that is defined by Python code.
async fn python(code: &std::ffi::CStr) -> PyResult<Py<PyAny>> {
    let future = Python::attach(|py| {
        let module = PyModule::from_code(py, code, c"subject.py", c"subject")?;
        pyo3_await_tokio::into_future(module.call_method0("main")?)
    })?;
    future.await
}

fn run_tests(arguments: &[&str]) -> Run {
    run(subject("harness").args(arguments))
}

fn the_end_is_that_of_a_python_program() {
    let passed = run(subject("prepared").arg("outcomes::passes"));
    passed.exits_with(0).expect("there is no traceback", passed.stderr.is_empty());
    passed.expect("it is the last thing that happens", passed.stdout.ends_with("\natexit\n"));
    let failed = run(subject("prepared").arg("outcomes::raises"));
    failed.exits_with(101).expect("it is the last thing that happens", failed.stdout.ends_with("\natexit\n"));
}
