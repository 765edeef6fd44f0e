//! Python classes made from raw slots.
//!
//! PyO3's own classes know no `am_send`, and carry the end of an iteration through an exception; on the path of every
//! await that costs more than all the rest.
//! This is the little that is needed instead: a [`Class`] is a Rust type whose values live in Python objects of their
//! own type, and whose methods are ordinary safe functions.

mod arguments;
mod members;
mod slots;
mod stop_iteration;

use std::{
    ffi::{CStr, c_int, c_void},
    ptr,
};

use pyo3::{PyTypeInfo, ffi, prelude::*, types::PyType};

use self::stop_iteration::stop_iteration;
use crate::once::PyOnce;

pub(crate) use self::{
    arguments::{Arguments, thrown},
    members::Members,
    slots::{PendingException, Protocol},
};

/// A Rust type whose values are the contents of Python objects.
///
/// The objects may be shared between threads, so methods have `&self` and the type is `Sync`.
pub(crate) trait Class: Send + Sync + Sized + 'static {
    /// The full name of the Python type, with its module.
    const NAME: &'static CStr;

    /// Where the type object is kept.
    fn type_object() -> &'static PyOnce<Py<PyType>>;

    /// What the objects are to Python's syntax, asked for once.
    fn protocol() -> Protocol;

    /// The methods and attributes, asked for once.
    fn members(py: Python<'_>) -> Members<Self>;

    /// What `__repr__` gives.
    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String>;

    /// Shows the garbage collector every Python reference that the object owns.
    ///
    /// It must not block, nor touch Python.
    fn traverse(&self, visit: &Visit);

    /// Gives up the references that may be part of a cycle. It must not show them to Python: what they refer to may
    /// have been cleared already.
    fn clear(&self, py: Python<'_>);

    /// Whether there is anything to do in `finalize`; else it is not called.
    const FINALIZES: bool = false;

    /// Whether an object that nobody refers to has something to say, now that it is to be deallocated.
    fn has_last_words(&mut self) -> bool {
        true
    }

    /// Whether an object that nobody refers to has nothing left in it that Python, or anybody's code, had a part in.
    fn is_empty(&mut self) -> bool {
        false
    }

    /// The last words: called once, before the object is cleared or deallocated. It may be brought back to life.
    ///
    /// A pending exception is kept out of the way.
    fn finalize(_: &Bound<'_, Object<Self>>) {}
}

/// A class whose objects can be awaited: see [`Protocol::awaitable`].
pub(crate) trait Awaitable: Class {
    /// Resumes the object, as an iterator that is awaited.
    fn send<'py>(this: &Bound<'py, Object<Self>>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>>;

    /// What the object returns, if that is at hand; else it is resumed by `send`.
    ///
    /// To resume an object calls for precautions, since it runs other people's code: a panic is caught, PyO3 and the
    /// gate at the end of the interpreter are told of the thread. They cost more than to return what is there already.
    /// So this is called without: it must not panic nor call into Python, and must drop no `Py` (a `Bound` may be
    /// dropped: a deallocation takes its own precautions).
    fn at_hand<'py>(_: &Bound<'py, Object<Self>>) -> Option<Bound<'py, PyAny>> {
        None
    }
}

/// A class for `async for`: see [`Protocol::async_iterator`].
pub(crate) trait AsyncIterate: Class {
    /// The awaitable for the next item.
    fn next<'py>(this: &Bound<'py, Object<Self>>) -> PyResult<Bound<'py, PyAny>>;

    /// The same, if it is at hand: under the terms of [`Awaitable::at_hand`].
    fn next_at_hand<'py>(_: &Bound<'py, Object<Self>>) -> Option<Bound<'py, PyAny>> {
        None
    }
}

/// What an awaited object does next.
pub(crate) enum Sent<'py> {
    Yield(Bound<'py, PyAny>),
    Return(Bound<'py, PyAny>),
}

impl<'py> Sent<'py> {
    /// The same as the result of the methods `send` and `throw`.
    pub(crate) fn into_result(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Yield(object) => Ok(object),
            Self::Return(value) => Err(stop_iteration(value)),
        }
    }
}

/// A Python object with a `T` in it.
///
/// Never had by value: `Bound<'_, Object<T>>` and `Py<Object<T>>` are references to one.
#[repr(C)]
pub(crate) struct Object<T> {
    base: ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    /// The stable ABI does not say whether an object has been finalized.
    #[cfg(not(any(Py_3_15, not(Py_LIMITED_API))))]
    finalized: bool,
    value: T,
}

// SAFETY: `type_object_raw` is always the one type that `create_type` made for `T`; it can be neither instantiated nor
// inherited from in Python, so each of its instances was made, complete, by `new`.
unsafe impl<T: Class> PyTypeInfo for Object<T> {
    fn type_object_raw(py: Python<'_>) -> *mut ffi::PyTypeObject {
        type_object::<T>(py).expect("it was made before, or in the main interpreter with memory left")
    }
}

/// The class, made on first use.
fn type_object<T: Class>(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    let class = T::type_object().get_or_try_init(py, || slots::create_type::<T>(py))?;
    Ok(class.as_ptr().cast())
}

/// Makes a Python object of `value`.
pub(crate) fn new<T: Class>(py: Python<'_>, value: T) -> PyResult<Bound<'_, Object<T>>> {
    let class = type_object::<T>(py)?;
    // SAFETY: `class` is a ready heap type whose instances have the size of an `Object<T>`; the header is set. The
    // garbage collector sees the object when all the rest is written.
    unsafe {
        let object = ffi::PyObject_GC_New::<Object<T>>(class);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        (&raw mut (*object).weak_references).write(ptr::null_mut());
        #[cfg(not(any(Py_3_15, not(Py_LIMITED_API))))]
        (&raw mut (*object).finalized).write(false);
        (&raw mut (*object).value).write(value);
        ffi::PyObject_GC_Track(object.cast());
        Ok(Bound::from_owned_ptr(py, object.cast()).cast_into_unchecked())
    }
}

/// The value in an object that nobody else has a reference to.
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) fn get_mut<'a, T: Class>(object: &'a mut Bound<'_, Object<T>>) -> Option<&'a mut T> {
    // SAFETY: the thread is attached, and the reference, which is the only one, is borrowed exclusively. As long as
    // this thread is attached no other can get a reference, not even from a weak one; a thread that looks at the value
    // unattached has a reference. The garbage collector looks at it only while it runs in this thread.
    unsafe { (ffi::Py_REFCNT(object.as_ptr()) == 1).then(|| &mut (*object.as_ptr().cast::<Object<T>>()).value) }
}

/// Without the GIL a count is no proof.
#[cfg(Py_GIL_DISABLED)]
pub(crate) fn get_mut<'a, T: Class>(_: &'a mut Bound<'_, Object<T>>) -> Option<&'a mut T> {
    None
}

/// The value in an object.
pub(crate) trait Get<T> {
    fn get(&self) -> &T;
}

impl<T: Class> Get<T> for Bound<'_, Object<T>> {
    fn get(&self) -> &T {
        // SAFETY: the reference keeps the object alive, and the value is never moved or mutated while it is.
        unsafe { &(*self.as_ptr().cast::<Object<T>>()).value }
    }
}

impl<T: Class> Get<T> for Py<Object<T>> {
    fn get(&self) -> &T {
        // SAFETY: as above; `T` is `Sync`, so it may be read by a thread that is not attached.
        unsafe { &(*self.as_ptr().cast::<Object<T>>()).value }
    }
}

/// The garbage collector's visitor.
pub(crate) struct Visit {
    visit: ffi::visitproc,
    argument: *mut c_void,
    result: std::cell::Cell<c_int>,
}

impl Visit {
    fn new(visit: ffi::visitproc, argument: *mut c_void, result: c_int) -> Self {
        Self { visit, argument, result: result.into() }
    }

    /// The thread is attached, though nothing of Python's may be called: it is for a lock.
    pub(crate) fn attached(&self) -> Python<'_> {
        // SAFETY: the garbage collector is.
        unsafe { Python::assume_attached() }
    }

    /// What the visitor said: not zero when the traversal is to stop.
    fn result(&self) -> c_int {
        self.result.get()
    }

    /// Shows one reference.
    pub(crate) fn call<T>(&self, reference: &Py<T>) {
        if self.result.get() == 0 {
            // SAFETY: the visitor is valid during the traversal, and the reference is owned by the visited object.
            self.result.set(unsafe { (self.visit)(reference.as_ptr(), self.argument) });
        }
    }
}
