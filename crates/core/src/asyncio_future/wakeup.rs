//! Which callbacks the drain may call itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::{ffi, prelude::*};

use crate::once::intern;

/// Whether a callback is the wake-up of one of asyncio's own tasks, which may be called from the drain.
///
/// A task that is written in C leaves a builtin function that is bound to it; they all have the same C function.
/// Any other callback, those of tasks written in Python among them, goes through `call_soon`.
pub(super) fn is_task_wakeup(function: &Bound<'_, PyAny>) -> bool {
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
