//! What the Python-driven tests call: small futures of every kind, each in every way a future can be run.

mod calls;
mod ends;
mod gate;
mod host;
mod lasting;
mod loops;
mod runtime;
mod stepwise;
mod streams;
mod tally;

use std::future::Future;

use pyo3::{exceptions::PyValueError, prelude::*};
use pyo3_await_tokio::{RuntimeExt, RustPanic, current_runtime};

#[pymodule]
fn bridge(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Whether it was built for the stable ABI, which lacks some of what the bridge uses where it is there.
    module.add("STABLE_ABI", cfg!(Py_LIMITED_API))?;
    module.add("RustPanic", module.py().get_type::<RustPanic>())?;
    module.add_class::<gate::Gate>()?;
    module.add_class::<runtime::Runtime>()?;
    module.add_class::<stepwise::Stepwise>()?;
    module.add_class::<tally::Tally>()?;
    module.add_function(wrap_pyfunction!(runtime::workers, module)?)?;
    ends::add_to(module)?;
    calls::add_to(module)?;
    host::add_to(module)?;
    lasting::add_to(module)?;
    loops::add_to(module)?;
    streams::add_to(module)
}

/// Runs a future on the default runtime, in the named way.
fn run<'py, F, T>(py: Python<'py>, way: &str, future: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    run_on(&current_runtime()?, py, way, future)
}

/// Runs a future in the named way.
fn run_on<'py, R, F, T>(runtime: &R, py: Python<'py>, way: &str, future: F) -> PyResult<Bound<'py, PyAny>>
where
    R: RuntimeExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    match way {
        "coroutine" => runtime.into_coroutine(py, future),
        "eager" => runtime.into_eager_coroutine(py, future),
        "local" => runtime.into_local_coroutine(py, future),
        "future" => runtime.into_asyncio_future(py, future),
        _ => Err(PyValueError::new_err(format!("there is no way '{way}' to run a future"))),
    }
}
