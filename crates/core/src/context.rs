//! Python's `contextvars.Context`, with and without the C API for it.
//!
//! The stable ABI has no `PyContext_*`; there the functions of the `contextvars` module serve.

use pyo3::prelude::*;

/// A copy of the current context.
pub(crate) fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    #[cfg(not(Py_LIMITED_API))]
    {
        // SAFETY: the thread is attached; the result is a new reference, or null with an exception.
        unsafe { Bound::from_owned_ptr_or_err(py, pyo3::ffi::PyContext_CopyCurrent()) }
    }
    #[cfg(Py_LIMITED_API)]
    {
        static COPY_CONTEXT: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
        COPY_CONTEXT.import(py, "contextvars", "copy_context")?.call0()
    }
}

/// Calls `function(argument)` in `context`.
///
/// # Errors
///
/// What the function raises, and `RuntimeError` when the context is entered already.
pub(crate) fn call<'py>(
    context: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    #[cfg(not(Py_LIMITED_API))]
    {
        struct Exit<'a, 'py>(&'a Bound<'py, PyAny>);

        impl Drop for Exit<'_, '_> {
            fn drop(&mut self) {
                // SAFETY: the thread is attached, and the context was entered by it.
                if unsafe { pyo3::ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
                    PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), Some(self.0));
                }
            }
        }

        // SAFETY: the thread is attached, and `context` is one; if it is not, that is an exception.
        if unsafe { pyo3::ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(context.py()));
        }
        let _exit = Exit(context);
        function.call1((argument,))
    }
    #[cfg(Py_LIMITED_API)]
    {
        context.call_method1(pyo3::intern!(context.py(), "run"), (function, argument))
    }
}
