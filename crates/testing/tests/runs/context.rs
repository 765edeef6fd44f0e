//! Each test's own copy of the context.

use std::sync::Mutex;

use pyo3::{prelude::*, sync::PyOnceLock};
use pyo3_await_tokio::TaskLocals;

use crate::support::{Case, run, subject};

pub(crate) const CASES: &[Case] = cases![contexts_do_not_leak,];

static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// What each test saw before it set the variable.
static SEEN: Mutex<Vec<Option<String>>> = Mutex::new(Vec::new());

fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let make = || py.import("contextvars")?.call_method1("ContextVar", ("variable",)).map(Bound::unbind);
    VARIABLE.get_or_try_init(py, make).map(|variable| variable.bind(py))
}

/// Sets the variable in the context of the Rust task.
pub(crate) fn set(py: Python<'_>, value: &str) -> PyResult<()> {
    let set = variable(py)?.getattr("set")?;
    TaskLocals::current(py)?.context(py).call_method1("run", (set, value))?;
    Ok(())
}

fn get(py: Python<'_>) -> PyResult<Option<String>> {
    TaskLocals::current(py)?.context(py).call_method1("get", (variable(py)?,))?.extract()
}

fn see_and_set(value: &str) -> PyResult<()> {
    Python::attach(|py| {
        let seen = get(py)?;
        set(py, value)?;
        assert_eq!(get(py)?.as_deref(), Some(value));
        SEEN.lock().expect("nobody panics here").push(seen);
        Ok(())
    })
}

#[pyo3_await_tokio::test]
async fn a() -> PyResult<()> {
    see_and_set("a")
}

#[pyo3_await_tokio::test]
async fn b() -> PyResult<()> {
    see_and_set("b")
}

/// Runs last, when one test runs at a time.
#[pyo3_await_tokio::test]
fn c_both_saw_what_main_has_set() {
    let seen = SEEN.lock().expect("nobody panics here");
    assert_eq!(*seen, [Some("main".to_owned()), Some("main".to_owned())]);
}

fn contexts_do_not_leak() {
    let run = run(subject("prepared").args(["context::", "--test-threads", "1"]));
    run.exits_with(0).prints("3 passed;");
}
