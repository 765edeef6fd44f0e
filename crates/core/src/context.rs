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
        static COPY_CONTEXT: crate::once::PyOnce<Py<PyAny>> = crate::once::PyOnce::new();
        COPY_CONTEXT.import(py, "contextvars", "copy_context")?.call0()
    }
}

/// A copy of a context.
pub(crate) fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    #[cfg(not(Py_LIMITED_API))]
    {
        // SAFETY: the thread is attached; the result is a new reference, or null with an exception, as it is when what
        // is to be copied is no context.
        unsafe { Bound::from_owned_ptr_or_err(context.py(), pyo3::ffi::PyContext_Copy(context.as_ptr())) }
    }
    #[cfg(Py_LIMITED_API)]
    {
        context.call_method0(crate::once::intern!(context.py(), "copy"))
    }
}

/// Calls `f` in `context`, which is the current one until `f` returns or panics.
///
/// # Errors
///
/// `RuntimeError` when the context is entered already.
#[cfg(not(Py_LIMITED_API))]
pub(crate) fn within<R>(context: &Bound<'_, PyAny>, f: impl FnOnce() -> R) -> PyResult<R> {
    struct Exit<'a, 'py>(&'a Bound<'py, PyAny>);

    impl Drop for Exit<'_, '_> {
        fn drop(&mut self) {
            // SAFETY: the thread is attached, and the context was entered by it.
            if unsafe { pyo3::ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
                PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), Some(self.0));
            }
        }
    }

    // SAFETY: the thread is attached, and `context` is a context; if it were not, that is an exception.
    if unsafe { pyo3::ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(context.py()));
    }
    let _exit = Exit(context);
    Ok(f())
}

/// Calls `f` in `context`, by way of `Context.run` and a Python function.
#[cfg(Py_LIMITED_API)]
pub(crate) fn within<R>(context: &Bound<'_, PyAny>, f: impl FnOnce() -> R) -> PyResult<R> {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// The address of a closure that the caller keeps alive, and whose only user this is.
    #[pyclass(frozen, module = "pyo3_await")]
    struct Trampoline(usize);

    #[pymethods]
    impl Trampoline {
        fn __call__(&self) {
            // SAFETY: `Context.run` calls it once, on this thread, before `within` returns.
            unsafe { (*(self.0 as *mut &mut dyn FnMut()))() }
        }
    }

    let py = context.py();
    let mut f = Some(f);
    let mut result = None;
    let mut closure = || result = f.take().map(|f| catch_unwind(AssertUnwindSafe(f)));
    let mut closure: &mut dyn FnMut() = &mut closure;
    let trampoline = Bound::new(py, Trampoline((&raw mut closure) as usize))?;
    context.call_method1(crate::once::intern!(py, "run"), (trampoline,))?;
    match result.expect("`Context.run` has called it") {
        Ok(value) => Ok(value),
        Err(payload) => resume_unwind(payload),
    }
}
