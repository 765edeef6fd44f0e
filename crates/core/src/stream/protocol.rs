//! Python's side of asynchronous iteration: the calls that `async for` and `await` make.

use std::{collections::VecDeque, ffi::c_int};

use pyo3::{
    exceptions::{PyStopAsyncIteration, PyTypeError},
    ffi,
    prelude::*,
    types::PyType,
};

use crate::{
    class::{Sent, Visit},
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
    /// The type of the last awaitable, and how it is awaited. Nearly always they have one type.
    awaitables: Option<(Py<PyType>, Await)>,
}

/// How pulling items has ended.
pub(super) enum Pulled<'py> {
    All,
    /// What is awaited has yielded something to wait for.
    Waits(Bound<'py, PyAny>, Bound<'py, PyAny>),
    /// It has raised; also at its end.
    Failed(PyErr),
}

/// How `await` comes to the iterator that it steps through.
#[derive(Clone, Copy)]
enum Await {
    /// It is the awaitable itself.
    Itself,
    /// By the function in the slot of the type.
    By(ffi::unaryfunc),
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
        Ok(Self { object: object.unbind(), next, awaitables: None })
    }

    /// Shows the garbage collector what it has.
    pub(super) fn traverse(&self, visit: &Visit) {
        visit.call(&self.object);
        if let Some((class, _)) = &self.awaitables {
            visit.call(class);
        }
    }

    /// Begins to await `anext(iterator)`.
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the slot was that of the object's type. Should its class change, the function is still one that takes
        // any object of the old class, of which the new one has the layout.
        let awaitable = unsafe { call(self.next, self.object.bind(py)) }?;
        let await_ = match &self.awaitables {
            Some((class, await_)) if class.as_ptr() == awaitable.get_type_ptr().cast() => *await_,
            _ => {
                let await_ = Await::of(&awaitable)?;
                // Some generators can be awaited, and some cannot.
                if !is_generator(&awaitable)? {
                    self.awaitables = Some((awaitable.get_type().unbind(), await_));
                }
                await_
            }
        };
        await_.steps(awaitable)
    }

    /// Awaits so many items, as long as none of them has to be waited for.
    pub(super) fn pull<'py>(
        &mut self,
        none: &Bound<'py, PyAny>,
        most: usize,
        items: &mut VecDeque<Py<PyAny>>,
    ) -> Pulled<'py> {
        while items.len() < most {
            let sent = self.next(none.py()).and_then(|steps| Ok((send(&steps, none)?, steps)));
            match sent {
                Ok((Sent::Return(item), _)) => items.push_back(item.unbind()),
                Ok((Sent::Yield(yielded), steps)) => return Pulled::Waits(steps, yielded),
                Err(error) => return Pulled::Failed(error),
            }
        }
        Pulled::All
    }

    /// Begins to await `iterator.aclose()`, if there is such a method.
    pub(super) fn close<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.object.bind(py).getattr_opt(intern!(py, "aclose"))? {
            Some(close) => {
                let awaitable = close.call0()?;
                Await::of(&awaitable)?.steps(awaitable).map(Some)
            }
            None => Ok(None),
        }
    }
}

fn is_generator(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static GENERATOR: PyOnce<Py<PyType>> = PyOnce::new();
    Ok(object.get_type().is(GENERATOR.import(object.py(), "types", "GeneratorType")?))
}

impl Await {
    fn of(awaitable: &Bound<'_, PyAny>) -> PyResult<Self> {
        static COROUTINE: PyOnce<Py<PyType>> = PyOnce::new();
        static IS_AWAITABLE: PyOnce<Py<PyAny>> = PyOnce::new();

        let py = awaitable.py();
        let class = awaitable.get_type();
        // A generator can be awaited if `types.coroutine` has marked it.
        let is_coroutine = class.is(COROUTINE.import(py, "types", "CoroutineType")?)
            || is_generator(awaitable)?
                && IS_AWAITABLE.import(py, "inspect", "isawaitable")?.call1((awaitable,))?.is_truthy()?;
        if is_coroutine {
            return Ok(Self::Itself);
        }
        let Some(function) = slot(&class, ffi::Py_am_await) else {
            let kind = class.fully_qualified_name()?;
            return Err(PyTypeError::new_err(format!("object {kind} can't be used in 'await' expression")));
        };
        Ok(Self::By(function))
    }

    /// The iterator that `await` steps through. The awaitable is of the type that this is of.
    fn steps(self, awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Itself => Ok(awaitable),
            Self::By(function) => {
                // SAFETY: the slot is that of the object's type, or was; the function takes any object of that.
                let steps = unsafe { call(function, &awaitable) }?;
                // SAFETY: the thread is attached; the object is asked for its type's slots only.
                if unsafe { ffi::PyIter_Check(steps.as_ptr()) } == 0 {
                    let kind = steps.get_type().fully_qualified_name()?;
                    return Err(PyTypeError::new_err(format!("__await__() returned non-iterator of type '{kind}'")));
                }
                Ok(steps)
            }
        }
    }
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
