//! The exception by which an iterator returns a value.

use std::ptr;

use pyo3::{
    exceptions::{PyBaseException, PyStopIteration},
    ffi,
    prelude::*,
    types::PyTuple,
};

/// The exception by which an iterator returns `value`.
pub(crate) fn stop_iteration(value: Bound<'_, PyAny>) -> PyErr {
    // The tuple keeps a value that is itself a tuple from being taken for the arguments.
    PyStopIteration::new_err((value.unbind(),))
}

/// Sets the exception by which an iterator returns `value`: none for `None`.
///
/// For each await of Python 3.12 and newer there is one, so it does without PyO3's `PyErr`.
pub(super) fn set_stop_iteration(value: Bound<'_, PyAny>) {
    if value.is_none() {
        return;
    }
    // A tuple would be taken for the arguments, and an exception for the one that is meant.
    let ambiguous = value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>();
    // SAFETY: the thread is attached; what is set is an exception's type, and a value for it or an instance. The call's
    // arguments end with null, and its result is a new reference, or null with another exception set.
    unsafe {
        let class = ffi::PyExc_StopIteration;
        if !ambiguous {
            return ffi::PyErr_SetObject(class, value.as_ptr());
        }
        let exception = ffi::PyObject_CallFunctionObjArgs(class, value.as_ptr(), ptr::null_mut::<ffi::PyObject>());
        if !exception.is_null() {
            ffi::PyErr_SetObject(class, exception);
            ffi::Py_DECREF(exception);
        }
    }
}
