//! The exception by which an iterator returns a value.

use std::ptr;

use pyo3::{exceptions::PyStopIteration, ffi, prelude::*};

/// The exception by which an iterator returns `value`.
pub(super) fn stop_iteration(value: Bound<'_, PyAny>) -> PyErr {
    // The tuple keeps a value that is itself a tuple from being taken for the arguments.
    PyStopIteration::new_err((value.unbind(),))
}

/// Sets the exception by which an iterator returns `value`: none for `None`.
///
/// For each await of Python 3.12 and newer there is one, so it does without PyO3's `PyErr`.
pub(super) fn set_stop_iteration(value: Bound<'_, PyAny>) {
    if !value.is_none() {
        set(value);
    }
}

/// Since Python 3.12 what is set is an instance. It is made here from its parts: to call the class costs more.
#[cfg(all(Py_3_12, not(Py_LIMITED_API)))]
fn set(value: Bound<'_, PyAny>) {
    // SAFETY: the thread is attached. The class makes an instance, complete but for its value, of a tuple of arguments,
    // which it refers to. Each result is a new reference, or null with another exception set.
    unsafe {
        let class = ffi::PyExc_StopIteration.cast::<ffi::PyTypeObject>();
        let arguments = ffi::PyTuple_New(1);
        if arguments.is_null() {
            return;
        }
        ffi::PyTuple_SET_ITEM(arguments, 0, value.clone().into_ptr());
        let new = (*class).tp_new.expect("exceptions can be made");
        let exception = new(class, arguments, ptr::null_mut());
        ffi::Py_DECREF(arguments);
        if !exception.is_null() {
            (*exception.cast::<ffi::PyStopIterationObject>()).value = value.into_ptr();
            ffi::PyErr_SetRaisedException(exception);
        }
    }
}

/// Older versions make the instance when somebody looks at it, if anybody does.
#[cfg(not(all(Py_3_12, not(Py_LIMITED_API))))]
fn set(value: Bound<'_, PyAny>) {
    use pyo3::{exceptions::PyBaseException, types::PyTuple};

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
