//! The methods and attributes of a class.

use std::{
    ffi::{CStr, c_int, c_void},
    marker::PhantomData,
    mem::offset_of,
    ptr,
};

use pyo3::{exceptions::PyTypeError, ffi, prelude::*};

use super::{
    Arguments, Class, Object,
    slots::{at_hand, enter},
};

/// The methods and attributes of a class.
pub(crate) struct Members<T> {
    methods: Vec<ffi::PyMethodDef>,
    attributes: Vec<ffi::PyGetSetDef>,
    flags: Vec<ffi::PyMemberDef>,
    class: PhantomData<fn(T)>,
}

/// The tables that Python wants, without the entries that end them.
pub(super) struct Tables {
    pub(super) methods: Vec<ffi::PyMethodDef>,
    pub(super) attributes: Vec<ffi::PyGetSetDef>,
    pub(super) members: Vec<ffi::PyMemberDef>,
}

impl<T: Class> Members<T> {
    pub(super) fn into_tables(self) -> Tables {
        Tables { methods: self.methods, attributes: self.attributes, members: self.flags }
    }

    pub(crate) fn new() -> Self {
        Self { methods: Vec::new(), attributes: Vec::new(), flags: Vec::new(), class: PhantomData }
    }

    /// An attribute that is a boolean, which Python reads and writes by itself: it costs no call.
    ///
    /// # Safety
    ///
    /// `offset` is that of an [`AtomicBool`](std::sync::atomic::AtomicBool) in `T`.
    pub(crate) unsafe fn flag(mut self, name: &'static CStr, offset: usize) -> Self {
        self.flags.push(ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_BOOL,
            offset: (offset_of!(Object<T>, value) + offset) as ffi::Py_ssize_t,
            flags: 0,
            doc: ptr::null(),
        });
        self
    }

    /// A method without parameters.
    pub(crate) fn method<F>(self, name: &'static CStr, function: F) -> Self
    where
        F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
    {
        self.method_at_hand(name, |_| None, function)
    }

    /// A method without parameters whose result may be at hand, under the terms of
    /// [`Awaitable::at_hand`](super::Awaitable::at_hand).
    pub(crate) fn method_at_hand<H, F>(self, name: &'static CStr, _: H, _: F) -> Self
    where
        H: for<'py> Fn(&Bound<'py, Object<T>>) -> Option<Bound<'py, PyAny>> + Copy + 'static,
        F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
    {
        unsafe extern "C" fn call<T: Class, H, F>(this: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject
        where
            H: for<'py> Fn(&Bound<'py, Object<T>>) -> Option<Bound<'py, PyAny>> + Copy + 'static,
            F: for<'py> Fn(&Bound<'py, Object<T>>) -> PyResult<Bound<'py, PyAny>> + Copy + 'static,
        {
            // SAFETY: Python calls a method of the class, attached, with an instance of it.
            unsafe {
                match at_hand(this, function::<H>()) {
                    Some(value) => value.into_ptr(),
                    None => enter(this, |this| Ok(function::<F>()(this)?.into_ptr()), ptr::null_mut()),
                }
            }
        }
        const { assert!(size_of::<F>() == 0) };
        self.without_parameters(name, call::<T, H, F>)
    }

    /// The same, if it is never anywhere else.
    pub(crate) fn method_always_at_hand<H>(self, name: &'static CStr, _: H) -> Self
    where
        H: for<'py> Fn(&Bound<'py, Object<T>>) -> Bound<'py, PyAny> + Copy + 'static,
    {
        unsafe extern "C" fn call<T: Class, H>(this: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject
        where
            H: for<'py> Fn(&Bound<'py, Object<T>>) -> Bound<'py, PyAny> + Copy + 'static,
        {
            // SAFETY: Python calls a method of the class, attached, with an instance of it.
            unsafe { at_hand(this, function::<H>()) }.into_ptr()
        }
        self.without_parameters(name, call::<T, H>)
    }

    fn without_parameters(mut self, name: &'static CStr, function: ffi::PyCFunction) -> Self {
        self.methods.push(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
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
