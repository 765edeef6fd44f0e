//! The loop that runs in this thread, and its handle.

use std::{cell::RefCell, sync::Arc};

use pyo3::prelude::*;

use super::EventLoop;
use crate::once::PyOnce;

thread_local! {
    /// The handle of the loop that was last seen running in this thread.
    static LAST: RefCell<Option<Arc<EventLoop>>> = const { RefCell::new(None) };
}

/// The handle of the loop that runs in this thread, if one does; made on first use.
pub(super) fn find(py: Python<'_>) -> PyResult<Option<Arc<EventLoop>>> {
    let Some(object) = running_loop(py)? else { return Ok(None) };
    let known = LAST.with_borrow(|last| {
        let handle = last.as_ref()?;
        (handle.address == object.as_ptr() as usize && handle.is_open()).then(|| Arc::clone(handle))
    });
    if known.is_some() {
        return Ok(known);
    }
    let handle = EventLoop::of(&object)?;
    drop(LAST.replace(Some(Arc::clone(&handle))));
    Ok(Some(handle))
}

/// Forgets a loop that is closed: its descriptor would be kept until another loop runs in this thread.
pub(super) fn forget(handle: &Arc<EventLoop>) {
    let last = LAST.try_with(|last| last.borrow_mut().take_if(|last| Arc::ptr_eq(last, handle)));
    drop(last);
}

/// The loop that runs in this thread, if one does.
pub(super) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static GET_RUNNING_LOOP: PyOnce<Py<PyAny>> = PyOnce::new();

    #[cfg(unix)]
    if let Some(running) = holder::running_loop(py) {
        return Ok(Some(running));
    }
    let running = GET_RUNNING_LOOP.import(py, "asyncio", "_get_running_loop")?.call0()?;
    if running.is_none() {
        return Ok(None);
    }
    #[cfg(unix)]
    holder::learn(&running);
    Ok(Some(running))
}

/// What asyncio has for each thread in which a loop runs, up to Python 3.11.
///
/// There, to ask for the running loop is a system call, `getpid`: more than half of what it costs, and where there are
/// more threads than cores, an occasion for the kernel to let another one run.
/// The layout is private. It is that of versions which do not change any more; and it is used only when what is found
/// in it has once been what asyncio says, else asyncio is asked.
#[cfg(unix)]
mod holder {
    use std::{
        ptr,
        sync::atomic::{AtomicPtr, Ordering},
    };

    use pyo3::{
        ffi,
        prelude::*,
        types::{PyDict, PyType},
    };

    use crate::{lifecycle::PerProcess, once::intern};

    #[repr(C)]
    struct Holder {
        base: ffi::PyObject,
        event_loop: *mut ffi::PyObject,
        /// The process in which it runs.
        process: libc::pid_t,
    }

    /// The type whose objects have this layout.
    static KNOWN: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

    static PROCESS: PerProcess<libc::pid_t> = PerProcess::new(|_| {
        // SAFETY: it may be called at any time.
        unsafe { libc::getpid() }
    });

    /// The loop that runs in this thread, as far as can be told without asking.
    pub(super) fn running_loop(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
        let known = KNOWN.load(Ordering::Relaxed);
        if known.is_null() {
            return None;
        }
        let holder = of_thread(py)?;
        // SAFETY: the object is of the type that was found to have the layout, and owns the loop in it.
        unsafe {
            if ffi::Py_TYPE(holder.as_ptr()) != known {
                return None;
            }
            let Holder { event_loop, process, .. } = &*holder.as_ptr().cast::<Holder>();
            let running = Bound::from_borrowed_ptr(py, *event_loop);
            (*process == *PROCESS.get() && !running.is_none()).then_some(running)
        }
    }

    /// Compares what asyncio has said with what is found.
    pub(super) fn learn(running: &Bound<'_, PyAny>) {
        let py = running.py();
        let Some(holder) = of_thread(py) else { return };
        let class = holder.get_type();
        if !has_layout(&class).unwrap_or(false) {
            return;
        }
        // SAFETY: the object is large enough.
        let Holder { event_loop, process, .. } = unsafe { &*holder.as_ptr().cast::<Holder>() };
        if *event_loop == running.as_ptr() && *process == *PROCESS.get() {
            KNOWN.store(class.as_ptr().cast(), Ordering::Relaxed);
        }
    }

    fn has_layout(class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        let size: usize = class.getattr(intern!(py, "__basicsize__"))?.extract()?;
        // PyO3's way to a name has a lock, for the stable ABI: a child that is forked meanwhile would wait for it.
        let name = class.getattr(intern!(py, "__name__"))?;
        Ok(name.eq("_RunningLoopHolder")? && size == size_of::<Holder>())
    }

    fn of_thread(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
        // SAFETY: the thread is attached; the result is borrowed, or null.
        let of_thread = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyThreadState_GetDict())? };
        of_thread.cast_into::<PyDict>().ok()?.get_item(intern!(py, "__asyncio_running_event_loop__")).ok()?
    }
}
