//! How an asyncio loop is found and woken.
//!
//! A loop that can watch descriptors is woken by a write to one.
//! One that cannot (Windows' proactor loop) is woken by a thread of ours, which calls `call_soon_threadsafe`.

use std::sync::{Arc, mpsc::Sender};

#[cfg(unix)]
use pyo3::exceptions::{PyNotImplementedError, PyTypeError, PyValueError};
#[cfg(Py_LIMITED_API)]
use pyo3::types::PyDict;
#[cfg(not(Py_LIMITED_API))]
use pyo3::types::PyTuple;
use pyo3::{exceptions::PyRuntimeError, ffi, prelude::*, types::PyWeakrefReference};

use super::{Drain, EventLoop, Guard, Resume, attribute, helper, running};

use crate::{
    error,
    once::{PyOnce, intern},
};

/// Whether the loop's tasks may be resumed by the caller, who was called by the loop.
pub(super) fn resume(event_loop: &Bound<'_, PyAny>) -> PyResult<Resume> {
    static CURRENT_TASK: PyOnce<Py<PyAny>> = PyOnce::new();
    let py = event_loop.py();
    let in_task = !CURRENT_TASK.import(py, "asyncio", "current_task")?.call1((event_loop,))?.is_none();
    let debug = event_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()?;
    Ok(if in_task || debug { Resume::Soon } else { Resume::Now })
}

/// `event_loop.call_soon(function, argument, context=context)`
pub(crate) fn call_soon(
    event_loop: &Bound<'_, PyAny>,
    function: &Bound<'_, PyAny>,
    argument: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let name = intern!(py, "call_soon");
    #[cfg(not(Py_LIMITED_API))]
    {
        static KEYWORDS: PyOnce<Py<PyTuple>> = PyOnce::new();

        let keywords = KEYWORDS.get_or_try_init(py, || Ok(PyTuple::new(py, [intern!(py, "context")])?.unbind()))?;
        let arguments = [event_loop.as_ptr(), function.as_ptr(), argument.as_ptr(), context.as_ptr()];
        // SAFETY: the thread is attached; there are three positional arguments, the loop among them, and one for each
        // keyword; all are references that the caller has. The result is a new one, or null with an exception.
        let result = unsafe {
            let result = ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 3, keywords.as_ptr());
            Bound::from_owned_ptr_or_err(py, result)
        };
        result.map(drop)
    }
    #[cfg(Py_LIMITED_API)]
    {
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        event_loop.call_method(name, (function, argument), Some(&keywords)).map(drop)
    }
}

/// Makes the handle of a loop that has none.
pub(super) fn adopt(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<EventLoop>> {
    let py = event_loop.py();
    if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
        return Err(error::event_loop_closed());
    }
    let elsewhere = !running::running_loop(py)?.is_some_and(|running| running.is(event_loop));
    #[cfg(unix)]
    if !elsewhere || watches_descriptors(event_loop)? {
        let waker = Waker::watched()?;
        match adopt_with(waker, event_loop, elsewhere) {
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {}
            adopted => return adopted,
        }
    }
    adopt_with(Waker::Helper(helper::sender()?), event_loop, elsewhere)
}

fn adopt_with(waker: Waker, event_loop: &Bound<'_, PyAny>, elsewhere: bool) -> PyResult<Arc<EventLoop>> {
    let py = event_loop.py();
    let handle = EventLoop::new(event_loop, waker)?;
    let guard = Bound::new(py, Guard(Arc::clone(&handle)))?;
    if elsewhere {
        // No loop may be touched by another thread than its own, which may start it at any time. What is posted
        // meanwhile waits.
        event_loop.call_method1("call_soon_threadsafe", (guard.getattr("move_in")?,))?;
    } else {
        move_in(event_loop, &guard)?;
    }
    remember(event_loop, &guard)?;
    Ok(handle)
}

/// Whether the loop has an `add_reader` of its own, and not that of asyncio's abstract loop, which raises.
#[cfg(unix)]
fn watches_descriptors(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    let abstract_loop = py.import(intern!(py, "asyncio"))?.getattr(intern!(py, "AbstractEventLoop"))?;
    let name = intern!(py, "add_reader");
    // An object that stands for a loop may have it in another way.
    let Some(own) = event_loop.get_type().getattr_opt(name)? else { return Ok(true) };
    Ok(!own.is(&abstract_loop.getattr(name)?))
}

/// Has the loop own the guard, and call a drain whenever it is woken. Called by the loop.
pub(super) fn move_in(event_loop: &Bound<'_, PyAny>, guard: &Bound<'_, Guard>) -> PyResult<()> {
    #[cfg(unix)]
    if let Waker::Descriptor { wakes, .. } = &*guard.get().0.waker {
        let drain = Bound::new(event_loop.py(), Drain(Arc::clone(&guard.get().0)))?;
        without_context(event_loop, "add_reader", wakes.number(), &drain)?;
        // SAFETY: the thread is attached, and the guard is alive.
        let references = || unsafe { ffi::Py_REFCNT(guard.as_ptr()) };
        let before = references();
        watch(event_loop, guard, &drain)?;
        match leave_context(event_loop, wakes.number()) {
            Err(error) if error::ends_the_process(event_loop.py(), &error) => return Err(error),
            // Its internals are others.
            Ok(()) | Err(_) => {}
        }
        if references() > before {
            return Ok(());
        }
        // The loop has kept the file's number, or nothing.
    }
    keep(event_loop, guard)
}

/// Has the loop watch the guard as a file, which most loops keep.
///
/// It is another file than the one that wakes the loop, and never readable: what is, asyncio has in the frames of its
/// own code, and an exception in there keeps it by its traceback.
#[cfg(unix)]
fn watch(event_loop: &Bound<'_, PyAny>, guard: &Bound<'_, Guard>, drain: &Bound<'_, Drain>) -> PyResult<()> {
    let py = event_loop.py();
    match without_context(event_loop, "add_reader", guard, drain) {
        // It takes nothing but numbers.
        Err(error) if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) => Ok(()),
        watched => watched,
    }
}

/// Has the loop keep the guard as the callback of a timer.
fn keep(event_loop: &Bound<'_, PyAny>, guard: &Bound<'_, Guard>) -> PyResult<()> {
    /// Ten years, in seconds. The loop wakes for it no more often than it does anyway.
    const NEVER: f64 = 10.0 * 365.25 * 86_400.0;
    without_context(event_loop, "call_later", NEVER, guard)
}

/// Calls a method that adds a callback: the loop keeps its context, and shall not keep that of whoever came first.
fn without_context<'py>(
    event_loop: &Bound<'py, PyAny>,
    method: &str,
    occasion: impl IntoPyObject<'py>,
    callback: impl IntoPyObject<'py>,
) -> PyResult<()> {
    let py = event_loop.py();
    let context = py.import(intern!(py, "contextvars"))?.call_method0(intern!(py, "Context"))?;
    context.call_method1(intern!(py, "run"), (event_loop.getattr(method)?, occasion, callback))?;
    Ok(())
}

/// Has asyncio call the drain in no context of its own.
///
/// The context of a callback cannot be entered twice, so that a drain that resumes a task which runs the loop again
/// could not be called again. Each delivery has a context of its own anyway.
/// This needs asyncio's internals; where a loop has others, it is not made to be run re-entrantly.
#[cfg(unix)]
fn leave_context(event_loop: &Bound<'_, PyAny>, descriptor: i32) -> PyResult<()> {
    let py = event_loop.py();
    let key = event_loop.getattr(intern!(py, "_selector"))?.call_method1(intern!(py, "get_key"), (descriptor,))?;
    let handle = key.getattr(intern!(py, "data"))?.get_item(0)?;
    // All that asyncio asks of a context is its method `run`.
    handle.setattr(intern!(py, "_context"), handle.getattr(intern!(py, "_callback"))?)
}

fn remember(event_loop: &Bound<'_, PyAny>, guard: &Bound<'_, Guard>) -> PyResult<()> {
    let py = event_loop.py();
    event_loop.setattr(attribute(py), PyWeakrefReference::new(guard.as_any())?).map_err(|error| {
        let kind = event_loop.get_type();
        let message = format!("the event loop of type {kind} takes no attributes, which the Rust bridge needs");
        let wrapped = PyRuntimeError::new_err(message);
        wrapped.set_cause(py, Some(error));
        wrapped
    })
}

/// How the loop's thread is told that its mailbox is not empty.
#[derive(Debug)]
pub(super) enum Waker {
    /// The loop watches both: by the one it is woken, and the other has it keep the guard.
    #[cfg(unix)]
    Descriptor { wakes: descriptor::Descriptor, never: descriptor::Descriptor },
    /// The helper thread calls `call_soon_threadsafe`.
    Helper(Sender<Arc<EventLoop>>),
}

impl Waker {
    #[cfg(unix)]
    fn watched() -> std::io::Result<Self> {
        Ok(Self::Descriptor { wakes: descriptor::Descriptor::new()?, never: descriptor::Descriptor::new()? })
    }

    /// Wakes the loop, from any thread.
    pub(super) fn wake(&self, event_loop: &Arc<EventLoop>) {
        match self {
            #[cfg(unix)]
            Self::Descriptor { wakes, .. } => wakes.signal(),
            // The helper ends only with the interpreter.
            Self::Helper(helper) => drop(helper.send(Arc::clone(event_loop))),
        }
    }

    /// Takes a wake back, before the mailbox is looked at for the last time.
    pub(super) fn quiet(&self) {
        match self {
            #[cfg(unix)]
            Self::Descriptor { wakes, .. } => wakes.clear(),
            Self::Helper(_) => {}
        }
    }

    /// The descriptor for which the loop keeps the guard.
    pub(super) fn file(&self) -> Option<i32> {
        match self {
            #[cfg(unix)]
            Self::Descriptor { never, .. } => Some(never.number()),
            Self::Helper(_) => None,
        }
    }

    /// Has the loop come again, if it is run before the drain has finished, or the drain does not finish.
    pub(super) fn again(&self, handle: &Arc<EventLoop>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        match self {
            // It is readable until it is cleared.
            #[cfg(unix)]
            Self::Descriptor { .. } => Ok(()),
            Self::Helper(_) => call_drain(handle, event_loop, "call_soon"),
        }
    }
}

/// Schedules a drain of the loop.
pub(super) fn call_drain(handle: &Arc<EventLoop>, event_loop: &Bound<'_, PyAny>, schedule: &str) -> PyResult<()> {
    event_loop.call_method1(schedule, (Drain(Arc::clone(handle)),)).map(drop)
}

#[cfg(unix)]
mod descriptor {
    use std::os::fd::{AsRawFd, OwnedFd};

    /// A descriptor that is readable from `signal` to `clear`.
    ///
    /// It is closed with the last reference to the loop's handle, so that no thread can write to a number that somebody
    /// else has got meanwhile.
    #[derive(Debug)]
    pub(in super::super) struct Descriptor {
        read: OwnedFd,
        /// `None` where one descriptor serves for both.
        write: Option<OwnedFd>,
    }

    impl Descriptor {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        pub(super) fn new() -> std::io::Result<Self> {
            use rustix::event::{EventfdFlags, eventfd};
            Ok(Self { read: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, write: None })
        }

        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        pub(super) fn new() -> std::io::Result<Self> {
            let (read, write) = rustix::pipe::pipe()?;
            for end in [&read, &write] {
                rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(end, true)?;
            }
            Ok(Self { read, write: Some(write) })
        }

        pub(super) fn number(&self) -> i32 {
            self.read.as_raw_fd()
        }

        pub(super) fn signal(&self) {
            // Eight bytes are what an eventfd takes, and a pipe does not mind. It fails only when the descriptor is
            // full, and then it is readable.
            let _ = rustix::io::write(self.write.as_ref().unwrap_or(&self.read), &1_u64.to_ne_bytes());
        }

        pub(super) fn clear(&self) {
            let mut buffer = [0; 64];
            // It fails only when there is nothing to read.
            let _ = rustix::io::read(&self.read, &mut buffer);
        }
    }
}
