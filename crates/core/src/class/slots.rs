//! The functions that Python calls, and the type object that names them.

use std::{
    ffi::{c_int, c_void},
    mem::{ManuallyDrop, offset_of},
    ptr,
};

use pyo3::{
    ffi,
    prelude::*,
    types::{PyString, PyType},
};

use super::{
    AsyncIterate, Awaitable, Class, Get, Object, Sent, Visit, members::Tables, stop_iteration::set_stop_iteration,
};
use crate::{error, lifecycle, panic};

/// What the objects of a class are to Python's syntax.
pub(crate) struct Protocol(Vec<ffi::PyType_Slot>);

impl Protocol {
    /// They can be awaited, and are the iterators that `await` steps through.
    pub(crate) fn awaitable<T: Awaitable>() -> Self {
        Self(vec![
            slot(ffi::Py_tp_iter, itself as *mut c_void),
            slot(ffi::Py_tp_iternext, next::<T> as *mut c_void),
            slot(ffi::Py_am_await, itself as *mut c_void),
            slot(ffi::Py_am_send, send::<T> as *mut c_void),
        ])
    }

    /// They can be iterated over by `async for`, once.
    pub(crate) fn async_iterator<T: AsyncIterate>() -> Self {
        Self(vec![
            slot(ffi::Py_am_aiter, itself as *mut c_void),
            slot(ffi::Py_am_anext, async_next::<T> as *mut c_void),
        ])
    }
}

fn slot(slot: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc: function }
}

/// Makes the type object of a class.
pub(super) fn create_type<T: Class>(py: Python<'_>) -> PyResult<Py<PyType>> {
    let Tables { mut methods, mut attributes, mut members } = T::members(py).into_tables();
    members.push(ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(Object<T>, weak_references) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    });
    // SAFETY: all zeroes is the entry that ends each of these tables.
    unsafe {
        methods.push(std::mem::zeroed());
        attributes.push(std::mem::zeroed());
        members.push(std::mem::zeroed());
    }
    let Protocol(mut slots) = T::protocol();
    if T::FINALIZES {
        slots.push(slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void));
    }
    slots.extend([
        slot(ffi::Py_tp_dealloc, deallocate::<T> as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void),
        slot(ffi::Py_tp_clear, clear::<T> as *mut c_void),
        slot(ffi::Py_tp_repr, represent::<T> as *mut c_void),
        // The type keeps pointers into these tables for as long as it lives, which is as long as the process.
        slot(ffi::Py_tp_methods, Vec::leak(methods).as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, Vec::leak(attributes).as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, Vec::leak(members).as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ]);
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    let mut specification = ffi::PyType_Spec {
        name: T::NAME.as_ptr(),
        basicsize: c_int::try_from(size_of::<Object<T>>()).expect("an object is small"),
        itemsize: 0,
        flags: flags as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots have the signatures that their names demand, and each table ends as it must.
    unsafe {
        let class = ffi::PyType_FromSpec(&mut specification);
        Ok(Bound::from_owned_ptr_or_err(py, class)?.cast_into_unchecked::<PyType>().unbind())
    }
}

/// Runs the Rust side of a slot: panics and errors become the Python exception that the slot reports.
///
/// # Safety
///
/// The thread is attached, and `this` is an instance of `T`'s class.
pub(super) unsafe fn enter<T: Class, R>(
    this: *mut ffi::PyObject,
    body: impl for<'py> FnOnce(&Bound<'py, Object<T>>) -> PyResult<R>,
    failed: R,
) -> R {
    let run = |py: Python<'_>| {
        // SAFETY: the caller says so.
        let this = unsafe { Bound::from_borrowed_ptr(py, this).cast_into_unchecked::<Object<T>>() };
        let _pass = lifecycle::shelter(py);
        panic::listen(py);
        let mut result = failed;
        let caught = panic::catch(|| match body(&this) {
            Ok(value) => result = value,
            Err(error) => error.restore(py),
        });
        if let Err(panic) = caught {
            error::panicked(panic).restore(py);
        }
        result
    };
    // SAFETY: the thread is attached, so there is nothing that could keep it from attaching.
    unsafe { Python::attach_unchecked(run) }
}

unsafe extern "C" fn finalize<T: Class>(this: *mut ffi::PyObject) {
    let body = |this: &Bound<'_, Object<T>>| {
        let _pending = PendingException::set_aside(this.py());
        panic::catch_or_report(this.py(), || T::finalize(this));
        Ok(())
    };
    // SAFETY: Python finalizes an instance of the class, attached.
    unsafe {
        #[cfg(not(any(Py_3_15, not(Py_LIMITED_API))))]
        if std::mem::replace(&mut (*this.cast::<Object<T>>()).finalized, true) {
            return;
        }
        enter(this, body, ());
    }
}

/// Finalizes an object that nobody refers to; false if somebody does now.
///
/// # Safety
///
/// Called by the deallocation of an instance of the class.
#[cfg(any(Py_3_15, not(Py_LIMITED_API)))]
unsafe fn finalize_dying<T: Class>(this: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller says so.
    unsafe { ffi::PyObject_CallFinalizerFromDealloc(this) == 0 }
}

/// The stable ABI cannot do that, so it is done in two steps: the object comes back to life for its finalizer, and when
/// it dies again at once, it is deallocated by that second death.
///
/// # Safety
///
/// Called by the deallocation of an instance of the class.
#[cfg(not(any(Py_3_15, not(Py_LIMITED_API))))]
unsafe fn finalize_dying<T: Class>(this: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller says so. The reference that is made here is given up here.
    unsafe {
        if (*this.cast::<Object<T>>()).finalized {
            return true;
        }
        ffi::Py_INCREF(this);
        finalize::<T>(this);
        ffi::Py_DECREF(this);
        false
    }
}

unsafe extern "C" fn deallocate<T: Class>(this: *mut ffi::PyObject) {
    // SAFETY: Python deallocates an instance of the class, attached.
    unsafe {
        let object = this.cast::<Object<T>>();
        if T::FINALIZES && (*object).value.has_last_words() && !finalize_dying::<T>(this) {
            return;
        }
        // From here on nobody else has a reference, nor can get one.
        ffi::PyObject_GC_UnTrack(this.cast());
        if !(*object).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        if (*object).value.is_empty() {
            ptr::drop_in_place(&raw mut (*object).value);
        } else {
            Python::attach_unchecked(|py| {
                let _pending = PendingException::set_aside(py);
                let _pass = lifecycle::shelter(py);
                panic::catch_or_report(py, || ptr::drop_in_place(&raw mut (*object).value));
            });
        }
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn traverse<T: Class>(
    this: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: Python traverses an instance of the class. A heap type is owned by its instances.
    unsafe {
        let result = visit(ffi::Py_TYPE(this).cast(), argument);
        let visit = Visit::new(visit, argument, result);
        (*this.cast::<Object<T>>()).value.traverse(&visit);
        visit.result()
    }
}

unsafe extern "C" fn clear<T: Class>(this: *mut ffi::PyObject) -> c_int {
    let body = |this: &Bound<'_, Object<T>>| {
        let _pending = PendingException::set_aside(this.py());
        this.get().clear(this.py());
        Ok(0)
    };
    // SAFETY: Python clears an instance of the class, attached.
    unsafe { enter(this, body, 0) }
}

unsafe extern "C" fn itself(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller has a reference.
    unsafe {
        ffi::Py_INCREF(this);
        this
    }
}

unsafe extern "C" fn represent<T: Class>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let body = |this: &Bound<'_, Object<T>>| Ok(PyString::new(this.py(), &T::repr(this)?).into_ptr());
    // SAFETY: Python represents an instance of the class, attached.
    unsafe { enter(this, body, ptr::null_mut()) }
}

unsafe extern "C" fn send<T: Awaitable>(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the place for the result is the caller's. Python resumes an instance of the class, attached.
    unsafe {
        if let Some(value) = at_hand(this, T::at_hand) {
            result.write(value.into_ptr());
            return ffi::PySendResult::PYGEN_RETURN;
        }
    }
    let body = |this: &Bound<'_, Object<T>>| {
        // SAFETY: the caller gives an object that it owns, and a place for the result.
        unsafe {
            let value = Bound::from_borrowed_ptr(this.py(), value);
            let (status, object) = match T::send(this, &value)? {
                Sent::Yield(object) => (ffi::PySendResult::PYGEN_NEXT, object),
                Sent::Return(object) => (ffi::PySendResult::PYGEN_RETURN, object),
            };
            result.write(object.into_ptr());
            Ok(status)
        }
    };
    // SAFETY: as above.
    unsafe {
        result.write(ptr::null_mut());
        enter(this, body, ffi::PySendResult::PYGEN_ERROR)
    }
}

unsafe extern "C" fn next<T: Awaitable>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Python resumes an instance of the class, attached.
    if let Some(value) = unsafe { at_hand(this, T::at_hand) } {
        let _pass = lifecycle::shelter(value.py());
        set_stop_iteration(value);
        return ptr::null_mut();
    }
    let body = |this: &Bound<'_, Object<T>>| {
        let none = this.py().None();
        match T::send(this, none.bind(this.py()))? {
            Sent::Yield(object) => Ok(object.into_ptr()),
            Sent::Return(object) => {
                set_stop_iteration(object);
                Ok(ptr::null_mut())
            }
        }
    };
    // SAFETY: as above.
    unsafe { enter(this, body, ptr::null_mut()) }
}

unsafe extern "C" fn async_next<T: AsyncIterate>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Python iterates over an instance of the class, attached.
    unsafe {
        if let Some(awaitable) = at_hand(this, T::next_at_hand) {
            return awaitable.into_ptr();
        }
        enter(this, |this: &Bound<'_, Object<T>>| Ok(T::next(this)?.into_ptr()), ptr::null_mut())
    }
}

/// Runs the Rust side of a slot without precautions.
///
/// # Safety
///
/// The thread is attached, and stays so during `'py`; `this` is an instance of `T`'s class.
pub(super) unsafe fn at_hand<'py, T: Class, R>(
    this: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'py, Object<T>>) -> R,
) -> R {
    // SAFETY: the caller says so. The caller of the slot has a reference.
    let this = unsafe {
        ManuallyDrop::new(Bound::from_owned_ptr(Python::assume_attached(), this).cast_into_unchecked::<Object<T>>())
    };
    body(&this)
}

/// An exception that was pending, put back at the end of the scope.
pub(crate) struct PendingException([*mut ffi::PyObject; 3]);

impl PendingException {
    #[allow(deprecated, reason = "its successor is not in the oldest stable ABI")]
    pub(crate) fn set_aside(_: Python<'_>) -> Self {
        let mut parts = [ptr::null_mut(); 3];
        let [kind, value, traceback] = &mut parts;
        // SAFETY: the thread is attached, and the pointers are places for the result.
        unsafe { ffi::PyErr_Fetch(kind, value, traceback) };
        Self(parts)
    }
}

impl Drop for PendingException {
    #[allow(deprecated, reason = "its successor is not in the oldest stable ABI")]
    fn drop(&mut self) {
        let [kind, value, traceback] = self.0;
        // SAFETY: it is dropped where it was made, attached; the references are those that were fetched.
        unsafe { ffi::PyErr_Restore(kind, value, traceback) };
    }
}
