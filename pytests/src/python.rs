//! Python code that a case brings along, and Rust code that Python calls.

use std::{
    ffi::{CStr, CString},
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{
    IntoPyObjectExt as _,
    call::PyCallArgs,
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};
use pyo3_await::{PythonFuture, into_future};

/// The names that some Python code has defined, with those of `prelude.py`.
#[derive(Debug)]
pub struct Code(Py<PyDict>);

const PRELUDE: &str = include_str!("prelude.py");

impl Code {
    /// Runs the code.
    ///
    /// # Errors
    ///
    /// What it raises.
    pub fn new(code: &CStr) -> PyResult<Self> {
        let names = Self(Python::attach(|py| PyDict::new(py).unbind()));
        names.run(&CString::new(PRELUDE)?)?;
        names.run(code)?;
        Ok(names)
    }

    /// Runs some more code.
    ///
    /// # Errors
    ///
    /// What it raises.
    pub fn run(&self, code: &CStr) -> PyResult<()> {
        Python::attach(|py| py.run(code, Some(self.0.bind(py)), None))
    }

    /// What a name stands for.
    ///
    /// # Errors
    ///
    /// `KeyError` when it is not defined.
    pub fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.0.bind(py).as_any().get_item(name)
    }

    /// Calls a function.
    ///
    /// # Errors
    ///
    /// What it raises.
    pub fn call<'py>(
        &self,
        py: Python<'py>,
        function: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, function)?.call1(arguments)
    }

    /// Calls a function, and makes a future of the awaitable that it returns.
    ///
    /// # Errors
    ///
    /// What the function raises, and what is wrong with the awaitable.
    pub fn future(&self, function: &str, arguments: impl for<'py> PyCallArgs<'py>) -> PyResult<PythonFuture> {
        Python::attach(|py| into_future(self.call(py, function, arguments)?))
    }
}

/// Python that calls something.
const CALL: &CStr = c"
async def call(function):
    return function()
";

/// Calls `f` on the thread of the current event loop, in a Python task of its own.
///
/// # Errors
///
/// What `f` returns as `Err`.
pub async fn on_loop<F, T>(f: F) -> PyResult<T>
where
    F: FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    T: Send + 'static,
{
    let place = Arc::new(Mutex::new(None));
    let function = {
        let place = Arc::clone(&place);
        once(move |py| {
            let value = f(py)?;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        })?
    };
    Code::new(CALL)?.future("call", (function,))?.await?;
    let value = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(value.expect("the function was called"))
}

/// A Python function without parameters, for one call.
///
/// # Errors
///
/// What keeps Python from making it.
pub fn once<F, T>(f: F) -> PyResult<Py<PyAny>>
where
    F: FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    let f = Mutex::new(Some(f));
    function(move |py, _| {
        let f = f.lock().unwrap_or_else(PoisonError::into_inner).take();
        f.ok_or_else(|| PyRuntimeError::new_err("this function was for one call"))?(py)
    })
}

/// A Python function of any number of arguments.
///
/// # Errors
///
/// What keeps Python from making it.
pub fn function<F, T>(f: F) -> PyResult<Py<PyAny>>
where
    F: Fn(Python<'_>, &Bound<'_, PyTuple>) -> PyResult<T> + Send + Sync + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    let call = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        f(arguments.py(), arguments)?.into_py_any(arguments.py())
    };
    Python::attach(|py| Ok(PyCFunction::new_closure(py, None, None, call)?.into_any().unbind()))
}
