//! Signals that wake the event loop which Rust runs.
//!
//! Python only notes a signal when it comes, and handles it between two instructions of the main thread.
//! A signal that comes when the main thread has let go of the GIL and does not wait for events yet, or that the system
//! gives to another thread, would be handled with the next event, which may be far.
//! One thread alone hardly ever sees that; beside the threads of a runtime it happens.
//!
//! On Windows, asyncio does this itself.

use pyo3::prelude::*;

/// Has Python write each signal to a socket, as long as it lives.
#[cfg(unix)]
pub(crate) struct Wakeup<'py> {
    read: Bound<'py, PyAny>,
    write: Bound<'py, PyAny>,
}

/// What the event loop is to read.
pub(crate) struct Reader(#[cfg(unix)] Py<PyAny>);

#[cfg(unix)]
impl<'py> Wakeup<'py> {
    /// `None` where it is nobody's business: only the main thread handles signals, and whoever has asked for them
    /// before has woken the loop already.
    pub(crate) fn set(py: Python<'py>) -> PyResult<Option<Self>> {
        if !crate::lifecycle::is_main_thread(py)? {
            return Ok(None);
        }
        let (read, write) = py.import("socket")?.call_method0("socketpair")?.extract()?;
        let wakeup = Self { read, write };
        for socket in [&wakeup.read, &wakeup.write] {
            socket.call_method1("setblocking", (false,))?;
        }
        let old = set_wakeup_fd(py, wakeup.number()?)?;
        if old != NONE {
            set_wakeup_fd(py, old)?;
            return Ok(None);
        }
        Ok(Some(wakeup))
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader(self.read.clone().unbind())
    }

    /// Has a loop that goes on forget the reader.
    pub(crate) fn remove_from(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<()> {
        if event_loop.call_method0("is_closed")?.is_truthy()? {
            return Ok(());
        }
        let removed = event_loop.call_method1("remove_reader", (&self.read,));
        if_implemented(event_loop.py(), removed.map(Bound::unbind))
    }

    fn number(&self) -> PyResult<i32> {
        self.write.call_method0("fileno")?.extract()
    }

    fn unset(&self) -> PyResult<()> {
        let py = self.write.py();
        // Somebody else may have taken it meanwhile.
        let current = set_wakeup_fd(py, NONE)?;
        if current != self.number()? && current != NONE {
            set_wakeup_fd(py, current)?;
        }
        self.write.call_method0("close")?;
        self.read.call_method0("close")?;
        Ok(())
    }
}

#[cfg(unix)]
impl Drop for Wakeup<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.unset() {
            error.write_unraisable(self.write.py(), None);
        }
    }
}

#[cfg(unix)]
impl Reader {
    /// Has the event loop read, on its own thread.
    pub(crate) fn add(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let add = AddReader { event_loop: event_loop.clone().unbind(), socket: self.0.clone_ref(py) };
        event_loop.call_method1("call_soon_threadsafe", (Bound::new(py, add)?,))?;
        Ok(())
    }
}

/// The callback that has the event loop read.
#[cfg(unix)]
#[pyclass(frozen, module = "pyo3_await")]
struct AddReader {
    event_loop: Py<PyAny>,
    socket: Py<PyAny>,
}

#[cfg(unix)]
#[pymethods]
impl AddReader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        if self.socket.call_method0(py, "fileno")?.extract::<i32>(py)? == NONE {
            // The run was over before its loop came to this.
            return Ok(());
        }
        let receive = self.socket.getattr(py, "recv")?;
        if_implemented(py, self.event_loop.call_method1(py, "add_reader", (&self.socket, receive, 4096)))
    }
}

/// A loop that cannot watch descriptors sees signals as late as ever.
#[cfg(unix)]
fn if_implemented(py: Python<'_>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
    match result {
        Err(error) if !error.is_instance_of::<pyo3::exceptions::PyNotImplementedError>(py) => Err(error),
        _ => Ok(()),
    }
}

/// The descriptor that stands for none.
#[cfg(unix)]
const NONE: i32 = -1;

/// Gives the descriptor that was set before.
#[cfg(unix)]
fn set_wakeup_fd(py: Python<'_>, number: i32) -> PyResult<i32> {
    let keywords = pyo3::types::PyDict::new(py);
    // Who has not read the last signal will be woken all the same.
    keywords.set_item("warn_on_full_buffer", false)?;
    py.import("signal")?.call_method("set_wakeup_fd", (number,), Some(&keywords))?.extract()
}

#[cfg(not(unix))]
pub(crate) struct Wakeup<'py>(std::convert::Infallible, std::marker::PhantomData<Python<'py>>);

#[cfg(not(unix))]
impl<'py> Wakeup<'py> {
    pub(crate) fn set(_: Python<'py>) -> PyResult<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn reader(&self) -> Reader {
        match self.0 {}
    }

    pub(crate) fn remove_from(&self, _: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.0 {}
    }
}

#[cfg(not(unix))]
impl Reader {
    pub(crate) fn add(&self, _: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }
}
