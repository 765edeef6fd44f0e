//! Which callbacks the drain may call itself, and with what.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::{ffi, prelude::*, types::PyDict};

use crate::once::{PyOnce, intern};

/// A callback that is a part of asyncio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfAsyncio {
    /// The wake-up of a task.
    Wakeup,
    /// By which `gather`, `wait` and `shield` learn of an end. At the most it completes a future of theirs, whose own
    /// callbacks wait for the loop's next turn.
    Relay,
}

impl OfAsyncio {
    /// What the drain may call; `None` for what has to go through `call_soon`.
    pub(super) fn of(function: &Bound<'_, PyAny>) -> Option<Self> {
        if is_task_wakeup(function) {
            Some(Self::Wakeup)
        } else if is_of_asyncio_tasks(function) {
            Some(Self::Relay)
        } else {
            None
        }
    }
}

/// A future of asyncio's own that is done and has no exception, to be shown to the wake-up of a task.
///
/// The wake-up wants to know only whether there is an exception to raise in the task; what the future gives, the task's
/// coroutine gets by itself. Of a future of asyncio's own it knows that without a call.
pub(super) fn done(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DONE: PyOnce<Py<PyAny>> = PyOnce::new();

    let make = || -> PyResult<Py<PyAny>> {
        // It asks its loop for the debug mode, and is never waited for: any object will do, and no loop is kept alive.
        let attributes = PyDict::new(py);
        attributes.set_item(intern!(py, "get_debug"), py.get_type::<pyo3::types::PyBool>())?;
        let event_loop = py.import(intern!(py, "types"))?.call_method("SimpleNamespace", (), Some(&attributes))?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), event_loop)?;
        let future = py.import(intern!(py, "_asyncio"))?.call_method("Future", (), Some(&keywords))?;
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        Ok(future.unbind())
    };
    Ok(DONE.get_or_try_init(py, make)?.bind(py))
}

/// Whether a callback is the wake-up of one of asyncio's own tasks, which may be called from the drain.
///
/// A task that is written in C leaves a builtin function that is bound to it; they all have the same C function.
/// Any other callback, those of tasks written in Python among them, goes through `call_soon`.
fn is_task_wakeup(function: &Bound<'_, PyAny>) -> bool {
    /// The address of that C function, once it has been seen.
    static TASK_WAKEUP: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: the thread is attached, and a builtin function has an address.
    let address = unsafe {
        if ffi::Py_TYPE(function.as_ptr()) != &raw mut ffi::PyCFunction_Type {
            return false;
        }
        ffi::PyCFunction_GetFunction(function.as_ptr()).map_or(0, |function| function as usize)
    };
    let known = TASK_WAKEUP.load(Ordering::Relaxed);
    if known != 0 {
        return address == known;
    }
    let wakes_a_task = || -> PyResult<bool> {
        let py = function.py();
        let task = py.import(intern!(py, "_asyncio"))?.getattr(intern!(py, "Task"))?;
        let name = function.getattr(intern!(py, "__name__"))?;
        Ok(name.eq("task_wakeup")? && function.getattr(intern!(py, "__self__"))?.is_instance(&task)?)
    };
    let found = wakes_a_task().unwrap_or(false);
    if found {
        TASK_WAKEUP.store(address, Ordering::Relaxed);
    }
    found
}

/// Whether a callback is a function of the module in which `gather`, `wait` and `shield` are.
#[cfg(not(Py_LIMITED_API))]
fn is_of_asyncio_tasks(function: &Bound<'_, PyAny>) -> bool {
    static GLOBALS: PyOnce<Py<PyDict>> = PyOnce::new();

    // SAFETY: the thread is attached; it is asked for the globals of a function only.
    let globals = unsafe {
        if ffi::PyFunction_Check(function.as_ptr()) == 0 {
            return false;
        }
        ffi::PyFunction_GetGlobals(function.as_ptr())
    };
    let of_tasks = GLOBALS.import(function.py(), "asyncio.tasks", "__dict__");
    of_tasks.is_ok_and(|of_tasks| of_tasks.as_ptr() == globals)
}

/// The same for the stable ABI, which asks the object.
#[cfg(Py_LIMITED_API)]
fn is_of_asyncio_tasks(function: &Bound<'_, PyAny>) -> bool {
    static FUNCTION: PyOnce<Py<pyo3::types::PyType>> = PyOnce::new();
    static GLOBALS: PyOnce<Py<PyDict>> = PyOnce::new();

    let py = function.py();
    let is_of_tasks = || -> PyResult<bool> {
        // A bound method has the globals of its function, and may do anything with its object.
        Ok(function.get_type().is(FUNCTION.import(py, "types", "FunctionType")?)
            && function.getattr(intern!(py, "__globals__"))?.is(GLOBALS.import(py, "asyncio.tasks", "__dict__")?))
    };
    is_of_tasks().unwrap_or(false)
}
