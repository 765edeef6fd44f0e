//! The arguments of a method's call.

use pyo3::{
    exceptions::{PyBaseException, PyTypeError},
    ffi,
    prelude::*,
    types::{PyString, PyTraceback, PyTuple, PyType},
};

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
    pub(super) unsafe fn new(
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

/// The exception that a call of `throw` is to raise: `throw(value)` or `throw(type[, value[, traceback]])`.
pub(crate) fn thrown(function: &str, arguments: &Arguments<'_, '_>) -> PyResult<PyErr> {
    arguments.check(function, 1, 3, &[])?;
    let given = |index| arguments.positional(index).filter(|object| !object.is_none());
    let Some(kind) = given(0) else {
        return Err(PyTypeError::new_err(format!("{function}() takes an exception")));
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
            .map_err(|_| PyTypeError::new_err(format!("{function}() third argument must be a traceback object")))?;
        error.set_traceback(arguments.py, Some(traceback));
    }
    Ok(error)
}
