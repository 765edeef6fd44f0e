//! Python's side of asynchronous iteration: the calls that `async for` and `await` make.

use std::ffi::c_int;

use pyo3::{
    exceptions::{PyStopAsyncIteration, PyTypeError},
    ffi,
    prelude::*,
    types::PyType,
};

use crate::{
    class::Sent,
    once::{PyOnce, intern},
};

/// Whether `async for` would take the object.
pub(super) fn is_async_iterable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(slot(&object.get_type(), ffi::Py_am_aiter).is_some())
}

/// What a type has in one of its slots.
fn slot(class: &Bound<'_, PyType>, slot: c_int) -> Option<ffi::unaryfunc> {
    // SAFETY: the type is one, and this slot has a function of one object, or nothing.
    unsafe {
        let function = ffi::PyType_GetSlot(class.as_type_ptr(), slot);
        (!function.is_null()).then(|| std::mem::transmute::<*mut std::ffi::c_void, ffi::unaryfunc>(function))
    }
}

/// Calls what a slot has for an object of its type.
///
/// # Safety
///
/// The function is in a slot of the object's type.
unsafe fn call<'py>(function: ffi::unaryfunc, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller says so; the thread is attached, and the result is a new reference or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), function(object.as_ptr())) }
}

/// An asynchronous iterator.
pub(super) struct Iterator {
    object: Py<PyAny>,
    next: ffi::unaryfunc,
}

impl Iterator {
    /// `aiter(iterable)`.
    pub(super) fn new(iterable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let aiter = slot(&iterable.get_type(), ffi::Py_am_aiter).ok_or_else(|| PyTypeError::new_err("no __aiter__"))?;
        // SAFETY: the slot is that of the object's type.
        let object = unsafe { call(aiter, iterable) }?;
        let Some(next) = slot(&object.get_type(), ffi::Py_am_anext) else {
            let kind = object.get_type().fully_qualified_name()?;
            let message =
                format!("'async for' received an object from __aiter__ that does not implement __anext__: {kind}");
            return Err(PyTypeError::new_err(message));
        };
        Ok(Self { object: object.unbind(), next })
    }

    pub(super) fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    /// Begins to await `anext(iterator)`.
    pub(super) fn next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the slot was that of the object's type. Should its class change, the function is still one that takes
        // any object of the old class, of which the new one has the layout.
        let awaitable = unsafe { call(self.next, self.object.bind(py)) }?;
        steps(awaitable)
    }

    /// Begins to await `iterator.aclose()`, if there is such a method.
    pub(super) fn close<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.object.bind(py).getattr_opt(intern!(py, "aclose"))? {
            Some(close) => steps(close.call0()?).map(Some),
            None => Ok(None),
        }
    }
}

/// The iterator that `await` steps through.
fn steps(awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    static COROUTINE: PyOnce<Py<PyType>> = PyOnce::new();

    let class = awaitable.get_type();
    if class.is(COROUTINE.import(awaitable.py(), "types", "CoroutineType")?) {
        return Ok(awaitable);
    }
    let Some(await_) = slot(&class, ffi::Py_am_await) else {
        let kind = class.fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("object {kind} can't be used in 'await' expression")));
    };
    // SAFETY: the slot is that of the object's type.
    unsafe { call(await_, &awaitable) }
}

/// Resumes what is awaited.
pub(super) fn send<'py>(steps: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
    let py = steps.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: the thread is attached; the result is a new reference, unless there is an exception.
    unsafe {
        match ffi::PyIter_Send(steps.as_ptr(), value.as_ptr(), &mut result) {
            ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Return(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yield(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// Raises an exception in what is awaited.
pub(super) fn throw<'py>(steps: &Bound<'py, PyAny>, error: PyErr) -> PyResult<Sent<'py>> {
    let py = steps.py();
    let Some(throw) = steps.getattr_opt(intern!(py, "throw"))? else { return Err(error) };
    match throw.call1((error.into_value(py),)) {
        Ok(object) => Ok(Sent::Yield(object)),
        Err(stop) if stop.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) => {
            Ok(Sent::Return(stop.value(py).getattr(intern!(py, "value"))?))
        }
        Err(error) => Err(error),
    }
}

/// Whether it is the end of an asynchronous iteration.
pub(super) fn is_end(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyStopAsyncIteration>(py)
}
