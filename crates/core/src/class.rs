//! Python classes made from raw slots.
//!
//! PyO3's own classes know no `am_send`, and carry the end of an iteration through an exception; on the path of every
//! await that costs more than all the rest.
//! This is the little that is needed instead: a [`Class`] is a Rust type whose values live in Python objects of their
//! own type, and whose methods are ordinary safe functions.

use std::{
    ffi::{CStr, c_int, c_void},
    mem::offset_of,
    ptr,
};

use pyo3::{
    PyTypeInfo,
    exceptions::{PyBaseException, PyStopIteration, PyTypeError},
    ffi,
    prelude::*,
    sync::PyOnceLock,
    types::{PyString, PyTraceback, PyTuple, PyType},
};

use crate::{error, panic};

/// A Rust type whose values are the contents of Python objects.
///
/// The objects may be shared between threads, so methods have `&self` and the type is `Sync`.
pub(crate) trait Class: Send + Sync + Sized + 'static {
    /// The full name of the Python type, with its module.
    const NAME: &'static CStr;

    /// Where the type object is kept.
    fn type_object() -> &'static PyOnceLock<Py<PyType>>;

    /// The methods and attributes, asked for once.
    fn members() -> Members<Self>;

    /// What `__repr__` gives.
    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String>;

    /// Resumes the object, as an iterator that is awaited.
    fn send<'py>(this: &Bound<'py, Object<Self>>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>>;

    /// Shows the garbage collector every Python reference that the object owns.
    ///
    /// It must not block, nor touch Python.
    fn traverse(&self, visit: &Visit);

    /// Gives up the references that may be part of a cycle. It must not show them to Python: what they refer to may
    /// have been cleared already.
    fn clear(&self, py: Python<'_>);

    /// The last words: called once, before the object is cleared or deallocated. It may be brought back to life.
    ///
    /// A pending exception is kept out of the way.
    fn finalize(this: &Bound<'_, Object<Self>>);
}

/// What an awaited object does next.
pub(crate) enum Sent<'py> {
    Yield(Bound<'py, PyAny>),
    Return(Bound<'py, PyAny>),
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
        let cell = T::type_object();
        let object = cell.get(py).unwrap_or_else(|| {
            cell.get_or_init(py, || create_type::<T>(py).expect("the class is well-formed, or there is no memory left"))
        });
        object.as_ptr().cast()
    }
}

/// Makes a Python object of `value`.
pub(crate) fn new<T: Class>(py: Python<'_>, value: T) -> PyResult<Bound<'_, Object<T>>> {
    let class = Object::<T>::type_object_raw(py);
    // SAFETY: `class` is a ready heap type; the memory it gives has room for an `Object<T>`, whose header is set and
    // whose rest is zeroed. Nothing runs between the allocation and the write that makes the object complete.
    unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        (&raw mut (*object.cast::<Object<T>>()).value).write(value);
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
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
    /// Shows one reference.
    pub(crate) fn call<T>(&self, reference: &Py<T>) {
        if self.result.get() == 0 {
            // SAFETY: the visitor is valid during the traversal, and the reference is owned by the visited object.
            self.result.set(unsafe { (self.visit)(reference.as_ptr(), self.argument) });
        }
    }
}

/// The methods and attributes of a class.
pub(crate) struct Members<T> {
    methods: Vec<ffi::PyMethodDef>,
    attributes: Vec<ffi::PyGetSetDef>,
    class: std::marker::PhantomData<fn(T)>,
}

impl<T: Class> Members<T> {
    pub(crate) fn new() -> Self {
        Self { methods: Vec::new(), attributes: Vec::new(), class: std::marker::PhantomData }
    }

    /// A method without parameters.
    pub(crate) fn method<F>(mut self, name: &'static CStr, _: F) -> Self
    where
        F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
    {
        unsafe extern "C" fn call<T: Class, F>(this: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject
        where
            F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
        {
            // SAFETY: Python calls a method of the class, attached, with an instance of it.
            unsafe { enter(this, |this| Ok(function::<F>()(this)?.into_ptr()), ptr::null_mut()) }
        }
        const { assert!(size_of::<F>() == 0) };
        self.methods.push(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: call::<T, F> },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: ptr::null(),
        });
        self
    }

    /// A method with parameters.
    pub(crate) fn method_with<F>(mut self, name: &'static CStr, _: F) -> Self
    where
        F: for<'a, 'py> Fn(&Bound<'py, Object<T>>, &Arguments<'a, 'py>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
    {
        unsafe extern "C" fn call<T: Class, F>(
            this: *mut ffi::PyObject,
            values: *const *mut ffi::PyObject,
            positional: ffi::Py_ssize_t,
            names: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject
        where
            F: for<'a, 'py> Fn(&Bound<'py, Object<T>>, &Arguments<'a, 'py>) -> PyResult<Bound<'py, PyAny>>
                + Copy
                + 'static,
        {
            // SAFETY: Python calls a method of the class, attached, with an instance of it, and the arguments are as
            // the vectorcall protocol has them.
            unsafe {
                enter(
                    this,
                    |this| {
                        let arguments = Arguments::new(this.py(), values, positional, names);
                        Ok(function::<F>()(this, &arguments)?.into_ptr())
                    },
                    ptr::null_mut(),
                )
            }
        }
        const { assert!(size_of::<F>() == 0) };
        self.methods.push(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call::<T, F> },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: ptr::null(),
        });
        self
    }

    /// A read-only attribute.
    pub(crate) fn get<F>(mut self, name: &'static CStr, _: F) -> Self
    where
        F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
    {
        self.attributes.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(get::<T, F>),
            set: None,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        });
        self
    }

    /// An attribute that can be set; it cannot be deleted.
    pub(crate) fn get_set<G, S>(mut self, name: &'static CStr, _: G, _: S) -> Self
    where
        G: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
        S: for<'py> Fn(&Bound<'py, Object<T>>, &Bound<'py, PyAny>) -> PyResult<()> + Copy + 'static,
    {
        unsafe extern "C" fn set<T: Class, S>(
            this: *mut ffi::PyObject,
            value: *mut ffi::PyObject,
            _: *mut c_void,
        ) -> c_int
        where
            S: for<'py> Fn(&Bound<'py, Object<T>>, &Bound<'py, PyAny>) -> PyResult<()> + Copy + 'static,
        {
            let body = |this: &Bound<'_, Object<T>>| {
                // SAFETY: the value is an object that the caller owns, or null.
                let value = unsafe { Bound::from_borrowed_ptr_or_opt(this.py(), value) };
                let value = value.ok_or_else(|| PyTypeError::new_err("this attribute cannot be deleted"))?;
                function::<S>()(this, &value)?;
                Ok(0)
            };
            // SAFETY: Python sets an attribute of the class, attached, on an instance of it.
            unsafe { enter(this, body, -1) }
        }
        const { assert!(size_of::<S>() == 0) };
        self = self.get(name, function::<G>());
        let attribute = self.attributes.last_mut().expect("it was just pushed");
        attribute.set = Some(set::<T, S>);
        self
    }
}

unsafe extern "C" fn get<T: Class, F>(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject
where
    F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
{
    // SAFETY: Python reads an attribute of the class, attached, on an instance of it.
    unsafe { enter(this, |this| Ok(function::<F>()(this)?.into_ptr()), ptr::null_mut()) }
}

/// The function of which `F` is the type.
fn function<F: Copy + 'static>() -> F {
    const { assert!(size_of::<F>() == 0) };
    // SAFETY: `F` has no bytes, and is inhabited: `Members` was given a value of it, which `Copy` allows to have again.
    unsafe { ptr::NonNull::dangling().read() }
}

/// The arguments of a call.
pub(crate) struct Arguments<'a, 'py> {
    py: Python<'py>,
    positional: &'a [*mut ffi::PyObject],
    keywords: &'a [*mut ffi::PyObject],
    names: Option<Bound<'py, PyTuple>>,
}

impl<'py> Arguments<'_, 'py> {
    /// # Safety
    ///
    /// The arguments are those of one vectorcall that has not returned yet.
    unsafe fn new(
        py: Python<'py>,
        values: *const *mut ffi::PyObject,
        positional: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: `names` is null or a tuple of strings. `values` has `positional` entries, and one for each name.
        unsafe {
            let names = Bound::from_borrowed_ptr_or_opt(py, names).map(|names| names.cast_into_unchecked::<PyTuple>());
            let positional = usize::try_from(positional).expect("a count is not negative");
            let keywords = names.as_ref().map_or(0, |names| names.len());
            let all = if values.is_null() { &[] } else { std::slice::from_raw_parts(values, positional + keywords) };
            let (positional, keywords) = all.split_at(positional);
            Self { py, positional, keywords, names }
        }
    }

    /// Refuses a call with fewer or more positional arguments, or with keywords other than `names`.
    pub(crate) fn check(&self, function: &str, min: usize, max: usize, names: &[&str]) -> PyResult<()> {
        let given = self.positional.len();
        for name in self.names.iter().flatten() {
            let name = name.cast_into::<PyString>()?;
            if !names.contains(&&*name.to_cow()?) {
                return Err(PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'")));
            }
        }
        if given > max || given + self.keywords.len() < min {
            let expected = if min == max { format!("{min}") } else { format!("from {min} to {max}") };
            return Err(PyTypeError::new_err(format!("{function}() takes {expected} arguments ({given} given)")));
        }
        Ok(())
    }

    /// The positional argument at `index`.
    pub(crate) fn positional(&self, index: usize) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the caller keeps its arguments alive during the call.
        self.positional.get(index).map(|value| unsafe { Bound::from_borrowed_ptr(self.py, *value) })
    }

    /// The argument that was given by name.
    pub(crate) fn keyword(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        for (index, given) in self.names.iter().flatten().enumerate() {
            if given.cast_into::<PyString>()? == name {
                // SAFETY: there is a value for each name, and the caller keeps its arguments alive during the call.
                return Ok(Some(unsafe { Bound::from_borrowed_ptr(self.py, self.keywords[index]) }));
            }
        }
        Ok(None)
    }
}

/// Runs the Rust side of a slot: panics and errors become the Python exception that the slot reports.
///
/// # Safety
///
/// The thread is attached, and `this` is an instance of `T`'s class.
unsafe fn enter<T: Class, R>(
    this: *mut ffi::PyObject,
    body: impl for<'py> FnOnce(&Bound<'py, Object<T>>) -> PyResult<R>,
    failed: R,
) -> R {
    let run = |py: Python<'_>| {
        // SAFETY: the caller says so.
        let this = unsafe { Bound::from_borrowed_ptr(py, this).cast_into_unchecked::<Object<T>>() };
        let error = match panic::catch(|| body(&this)) {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => error,
            Err(panic) => error::panicked(panic),
        };
        error.restore(py);
        failed
    };
    // SAFETY: the thread is attached, so there is nothing that could keep it from attaching.
    unsafe { Python::attach_unchecked(run) }
}

unsafe extern "C" fn finalize<T: Class>(this: *mut ffi::PyObject) {
    let body = |this: &Bound<'_, Object<T>>| {
        let _pending = PendingException::set_aside(this.py());
        T::finalize(this);
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
        if !finalize_dying::<T>(this) {
            return;
        }
        // From here on nobody else has a reference, nor can get one.
        ffi::PyObject_GC_UnTrack(this.cast());
        let object = this.cast::<Object<T>>();
        if !(*object).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        Python::attach_unchecked(|py| {
            let _pending = PendingException::set_aside(py);
            if let Err(panic) = panic::catch(|| ptr::drop_in_place(&raw mut (*object).value)) {
                error::panicked(panic).write_unraisable(py, None);
            }
        });
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
        let visit = Visit { visit, argument, result: result.into() };
        (*this.cast::<Object<T>>()).value.traverse(&visit);
        visit.result.get()
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

unsafe extern "C" fn send<T: Class>(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
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
    // SAFETY: the place for the result is the caller's. Python resumes an instance of the class, attached.
    unsafe {
        result.write(ptr::null_mut());
        enter(this, body, ffi::PySendResult::PYGEN_ERROR)
    }
}

unsafe extern "C" fn next<T: Class>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let body = |this: &Bound<'_, Object<T>>| {
        let none = this.py().None();
        match T::send(this, none.bind(this.py()))? {
            Sent::Yield(object) => Ok(object.into_ptr()),
            // An iterator that ends without an exception has returned `None`.
            Sent::Return(object) if object.is_none() => Ok(ptr::null_mut()),
            Sent::Return(object) => Err(stop_iteration(object)),
        }
    };
    // SAFETY: Python resumes an instance of the class, attached.
    unsafe { enter(this, body, ptr::null_mut()) }
}

/// The exception that a call of `throw` is to raise: `throw(value)` or `throw(type[, value[, traceback]])`.
pub(crate) fn thrown(arguments: &Arguments<'_, '_>) -> PyResult<PyErr> {
    arguments.check("throw", 1, 3, &[])?;
    let given = |index| arguments.positional(index).filter(|object| !object.is_none());
    let Some(kind) = given(0) else {
        return Err(PyTypeError::new_err("throw() takes an exception"));
    };
    let error = if kind.is_instance_of::<PyBaseException>() {
        if given(1).is_some() {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        PyErr::from_value(kind)
    } else if kind.cast::<PyType>().is_ok_and(|kind| kind.is_subclass_of::<PyBaseException>().unwrap_or(false)) {
        match given(1) {
            Some(value) if value.is_instance(&kind)? => PyErr::from_value(value),
            Some(value) if value.is_instance_of::<PyTuple>() => {
                PyErr::from_value(kind.call1(value.cast_into::<PyTuple>()?)?)
            }
            Some(value) => PyErr::from_value(kind.call1((value,))?),
            None => PyErr::from_value(kind.call0()?),
        }
    } else {
        let message = format!(
            "exceptions must be classes or instances deriving from BaseException, not {}",
            kind.get_type().name()?
        );
        return Err(PyTypeError::new_err(message));
    };
    if let Some(traceback) = given(2) {
        let traceback = traceback
            .cast_into::<PyTraceback>()
            .map_err(|_| PyTypeError::new_err("throw() third argument must be a traceback object"))?;
        error.set_traceback(arguments.py, Some(traceback));
    }
    Ok(error)
}

/// The exception by which an iterator returns `value`.
pub(crate) fn stop_iteration(value: Bound<'_, PyAny>) -> PyErr {
    // The tuple keeps a value that is itself a tuple from being taken for the arguments.
    PyStopIteration::new_err((value.unbind(),))
}

/// An exception that was pending, put back at the end of the scope.
struct PendingException([*mut ffi::PyObject; 3]);

impl PendingException {
    #[allow(deprecated, reason = "its successor is not in the oldest stable ABI")]
    fn set_aside(_: Python<'_>) -> Self {
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

fn create_type<T: Class>(py: Python<'_>) -> PyResult<Py<PyType>> {
    // SAFETY: all zeroes is the entry that ends each of these tables.
    let (end_method, end_attribute) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let Members { mut methods, mut attributes, .. } = T::members();
    methods.push(end_method);
    attributes.push(end_attribute);
    let members = [
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset_of!(Object<T>, weak_references) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        // SAFETY: as above.
        unsafe { std::mem::zeroed() },
    ];
    let slot = |slot, function| ffi::PyType_Slot { slot, pfunc: function };
    let mut slots = [
        slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void),
        slot(ffi::Py_tp_dealloc, deallocate::<T> as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void),
        slot(ffi::Py_tp_clear, clear::<T> as *mut c_void),
        slot(ffi::Py_tp_repr, represent::<T> as *mut c_void),
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next::<T> as *mut c_void),
        slot(ffi::Py_am_await, itself as *mut c_void),
        slot(ffi::Py_am_send, send::<T> as *mut c_void),
        // The type keeps pointers into these tables for as long as it lives, which is as long as the process.
        slot(ffi::Py_tp_methods, Vec::leak(methods).as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, Vec::leak(attributes).as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, Box::leak(Box::new(members)).as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ];
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
