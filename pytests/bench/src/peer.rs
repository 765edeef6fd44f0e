//! `pyo3-async-runtimes`, on tokio.

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::{future_into_py, into_future};

use crate::{futures, submodule};

type Awaitable<'py> = PyResult<Bound<'py, PyAny>>;

#[pyfunction]
fn ready(py: Python<'_>) -> Awaitable<'_> {
    future_into_py(py, futures::ready())
}

#[pyfunction]
fn yield_once(py: Python<'_>) -> Awaitable<'_> {
    future_into_py(py, futures::after(tokio::task::yield_now))
}

#[pyfunction]
fn spawn_once(py: Python<'_>) -> Awaitable<'_> {
    let spawn = || async { tokio::spawn(async {}).await.expect("it does not panic") };
    future_into_py(py, futures::after(spawn))
}

#[pyfunction]
fn pending(py: Python<'_>) -> Awaitable<'_> {
    future_into_py(py, futures::pending())
}

#[pyfunction]
fn call_sequentially(py: Python<'_>, function: Py<PyAny>, count: usize) -> Awaitable<'_> {
    future_into_py(py, futures::call_sequentially(futures::attached(into_future, function), count))
}

#[pyfunction]
fn call_at_once(py: Python<'_>, function: Py<PyAny>, count: usize) -> Awaitable<'_> {
    let call = futures::attached(into_future, function);
    // It attaches once for all of them.
    future_into_py(py, futures::call_at_once(move || Python::attach(|_| futures::all(call, count))))
}

pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    submodule(parent, "peer", |module| {
        module.add_function(wrap_pyfunction!(ready, module)?)?;
        module.add_function(wrap_pyfunction!(yield_once, module)?)?;
        module.add_function(wrap_pyfunction!(spawn_once, module)?)?;
        module.add_function(wrap_pyfunction!(pending, module)?)?;
        module.add_function(wrap_pyfunction!(call_sequentially, module)?)?;
        module.add_function(wrap_pyfunction!(call_at_once, module)?)?;
        module.add("call_attached", module.getattr("call_sequentially")?)
    })
}
