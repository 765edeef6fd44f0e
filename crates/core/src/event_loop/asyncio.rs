//! How an asyncio loop is found and woken.
//!
//! A loop that can watch descriptors is woken by a write to one.
//! One that cannot (Windows' proactor loop) is woken by a thread of ours, which calls `call_soon_threadsafe`.

use std::sync::{Arc, mpsc::Sender};

#[cfg(Py_LIMITED_API)]
use pyo3::types::PyDict;
use pyo3::{
    exceptions::{PyNotImplementedError, PyRuntimeError},
    prelude::*,
    types::PyWeakrefReference,
};
#[cfg(not(Py_LIMITED_API))]
use pyo3::{ffi, types::PyTuple};

use super::{Drain, EventLoop, Resume, attribute, helper};

use crate::once::{PyOnce, intern};

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

/// Makes the handle of a loop that has none, and has the loop watch it.
pub(super) fn adopt(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<EventLoop>> {
    let py = event_loop.py();
    if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
        return Err(crate::error::event_loop_closed());
    }
    #[cfg(unix)]
    {
        let descriptor = descriptor::Descriptor::new()?;
        let number = descriptor.number();
        let handle = EventLoop::new(event_loop, Waker::Descriptor(descriptor))?;
        match entrust(event_loop, "add_reader", number.into_pyobject(py)?.as_any(), &handle) {
            Ok(()) => {
                leave_context(event_loop, number);
                return Ok(handle);
            }
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {}
            Err(error) => return Err(error),
        }
    }
    /// Ten years, in seconds. The loop wakes for it no more often than it does anyway.
    const NEVER: f64 = 10.0 * 365.25 * 86_400.0;
    let handle = EventLoop::new(event_loop, Waker::Helper(helper::sender()?))?;
    entrust(event_loop, "call_later", NEVER.into_pyobject(py)?.as_any(), &handle)?;
    Ok(handle)
}

/// Gives the loop a drain, as the callback of a descriptor or of a timer, which the loop drops when it is closed.
fn entrust(
    event_loop: &Bound<'_, PyAny>,
    method: &str,
    occasion: &Bound<'_, PyAny>,
    handle: &Arc<EventLoop>,
) -> PyResult<()> {
    let py = event_loop.py();
    let drain = Bound::new(py, Drain(Arc::clone(handle)))?;
    // The loop keeps the context of its callbacks: it shall not keep that of whoever came first.
    let context = py.import(intern!(py, "contextvars"))?.call_method0(intern!(py, "Context"))?;
    context.call_method1(intern!(py, "run"), (event_loop.getattr(method)?, occasion, &drain))?;
    remember(event_loop, PyWeakrefReference::new(drain.as_any())?.as_any())
}

/// Has asyncio call the drain in no context of its own.
///
/// The context of a callback cannot be entered twice, so that a drain that resumes a task which runs the loop again
/// could not be called again. Each delivery has a context of its own anyway.
/// This needs asyncio's internals; where a loop has others, it is not made to be run re-entrantly.
#[cfg(unix)]
fn leave_context(event_loop: &Bound<'_, PyAny>, descriptor: i32) {
    let py = event_loop.py();
    let leave = || -> PyResult<()> {
        let key = event_loop.getattr(intern!(py, "_selector"))?.call_method1(intern!(py, "get_key"), (descriptor,))?;
        let handle = key.getattr(intern!(py, "data"))?.get_item(0)?;
        // All that asyncio asks of a context is its method `run`.
        handle.setattr(intern!(py, "_context"), handle.getattr(intern!(py, "_callback"))?)
    };
    let _ = leave();
}

fn remember(event_loop: &Bound<'_, PyAny>, drain: &Bound<'_, PyAny>) -> PyResult<()> {
    event_loop.setattr(attribute(event_loop.py()), drain).map_err(|error| {
        let py = event_loop.py();
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
    /// The loop watches it.
    #[cfg(unix)]
    Descriptor(descriptor::Descriptor),
    /// The helper thread calls `call_soon_threadsafe`.
    Helper(Sender<Arc<EventLoop>>),
}

impl Waker {
    /// Wakes the loop, from any thread.
    pub(super) fn wake(&self, event_loop: &Arc<EventLoop>) {
        match self {
            #[cfg(unix)]
            Self::Descriptor(descriptor) => descriptor.signal(),
            // The helper ends only with the interpreter.
            Self::Helper(helper) => drop(helper.send(Arc::clone(event_loop))),
        }
    }

    /// Takes a wake back, before the mailbox is looked at for the last time.
    pub(super) fn quiet(&self) {
        match self {
            #[cfg(unix)]
            Self::Descriptor(descriptor) => descriptor.clear(),
            Self::Helper(_) => {}
        }
    }

    /// Closes what a forked child has of it. The handle must not be used after that, nor dropped.
    pub(super) fn close_copy(&self) {
        match self {
            #[cfg(unix)]
            Self::Descriptor(descriptor) => descriptor.close_copy(),
            Self::Helper(_) => {}
        }
    }

    /// Has the loop come again, if it is run before the drain has finished, or the drain does not finish.
    pub(super) fn again(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        match self {
            // It is readable until it is cleared.
            #[cfg(unix)]
            Self::Descriptor(_) => Ok(()),
            Self::Helper(_) => call_drain(event_loop, "call_soon"),
        }
    }
}

/// Schedules the loop's drain, if it still has one.
pub(super) fn call_drain(event_loop: &Bound<'_, PyAny>, schedule: &str) -> PyResult<()> {
    if let Some(drain) = Drain::of(event_loop)? {
        event_loop.call_method1(schedule, (drain,))?;
    }
    Ok(())
}

#[cfg(unix)]
mod descriptor {
    use std::{
        iter,
        os::fd::{AsRawFd, OwnedFd},
        sync::atomic::{AtomicBool, Ordering},
    };

    /// A descriptor that is readable from `signal` to `clear`.
    ///
    /// It is closed with the last reference to the loop's handle, so that no thread can write to a number that somebody
    /// else has got meanwhile.
    #[derive(Debug)]
    pub(in super::super) struct Descriptor {
        read: OwnedFd,
        /// `None` where one descriptor serves for both.
        write: Option<OwnedFd>,
        /// This is a forked child, which has closed its copies.
        copy_closed: AtomicBool,
    }

    impl Descriptor {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        pub(super) fn new() -> std::io::Result<Self> {
            use rustix::event::{EventfdFlags, eventfd};
            Ok(Self {
                read: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                write: None,
                copy_closed: AtomicBool::new(false),
            })
        }

        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        pub(super) fn new() -> std::io::Result<Self> {
            let (read, write) = rustix::pipe::pipe()?;
            for end in [&read, &write] {
                rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(end, true)?;
            }
            Ok(Self { read, write: Some(write), copy_closed: AtomicBool::new(false) })
        }

        /// In a forked child, of a descriptor that is never dropped there: the parent's selector is left alone.
        pub(super) fn close_copy(&self) {
            if self.copy_closed.swap(true, Ordering::Relaxed) {
                return;
            }
            for descriptor in iter::once(&self.read).chain(&self.write) {
                // SAFETY: nobody uses it any more: the handle is left behind, and its owner is never dropped.
                unsafe { rustix::io::close(descriptor.as_raw_fd()) };
            }
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
