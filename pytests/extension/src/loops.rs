//! Event loops that are run from Rust.

use pyo3::prelude::*;
use pyo3_await_tokio::into_future;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add_function(wrap_pyfunction!(run_until_complete, module)?)?;
    module.add_function(wrap_pyfunction!(run_forever, module)?)
}

/// Awaits what `make()` returns, on a new event loop.
#[pyfunction]
fn run(py: Python<'_>, make: Py<PyAny>) -> PyResult<Py<PyAny>> {
    pyo3_await_tokio::run(py, outcome_of(make))
}

/// Awaits what `make()` returns, on the given event loop.
#[pyfunction]
fn run_until_complete(event_loop: &Bound<'_, PyAny>, make: Py<PyAny>) -> PyResult<Py<PyAny>> {
    pyo3_await_tokio::run_until_complete(event_loop, outcome_of(make))
}

#[pyfunction]
fn run_forever(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    pyo3_await_tokio::run_forever(event_loop)
}

async fn outcome_of(make: Py<PyAny>) -> PyResult<Py<PyAny>> {
    Python::attach(|py| into_future(make.bind(py).call0()?))?.await
}
