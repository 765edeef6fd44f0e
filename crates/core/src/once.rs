//! Values that are made once, with no lock held while they are made.
//!
//! PyO3's `PyOnceLock` lets go of the interpreter and holds its lock while it makes a value, and its `intern!` is built
//! from that. If another thread forks then, the child waits for that lock for ever.
//! Here two threads may make a value at the same time, and that of one of them is kept.

use std::sync::OnceLock;

use pyo3::{PyTypeCheck, prelude::*};

use crate::error;

/// A value for the whole life of the main interpreter.
#[derive(Debug)]
pub(crate) struct PyOnce<T>(OnceLock<T>);

impl<T> PyOnce<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn get_or_init(&self, _: Python<'_>, make: impl FnOnce() -> T) -> &T {
        match self.0.get() {
            Some(value) => value,
            None => self.keep(make()),
        }
    }

    pub(crate) fn get_or_try_init(&self, py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        match self.0.get() {
            Some(value) => Ok(value),
            None => {
                refuse_subinterpreter(py)?;
                Ok(self.keep(make()?))
            }
        }
    }

    #[cold]
    fn keep(&self, value: T) -> &T {
        // Somebody else may have been faster.
        let _ = self.0.set(value);
        self.0.get().expect("it is set")
    }
}

impl<T: PyTypeCheck> PyOnce<Py<T>> {
    /// An attribute of a module.
    pub(crate) fn import<'py>(&self, py: Python<'py>, module: &str, attribute: &str) -> PyResult<&Bound<'py, T>> {
        let value = self.get_or_try_init(py, || Ok(py.import(module)?.getattr(attribute)?.cast_into()?.unbind()))?;
        Ok(value.bind(py))
    }
}

/// An interned Python string that is made once.
macro_rules! intern {
    ($py:expr, $text:expr) => {{
        static NAME: $crate::once::PyOnce<pyo3::Py<pyo3::types::PyString>> = $crate::once::PyOnce::new();

        let py: pyo3::Python<'_> = $py;
        NAME.get_or_init(py, || pyo3::types::PyString::intern(py, $text).unbind()).bind(py)
    }};
}

pub(crate) use intern;

/// Refuses an interpreter that is not the main one: of what is made once here, and in PyO3, each would need its own.
pub(crate) fn refuse_subinterpreter(_: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread is attached.
    let id = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    if id == 0 { Ok(()) } else { Err(error::in_subinterpreter()) }
}
