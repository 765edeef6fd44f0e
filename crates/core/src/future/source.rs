//! What a Rust future awaits: a Python object, or a function that makes one.

use pyo3::prelude::*;

use super::schedule::{close_unstarted, end_unstarted, is_awaitable};
use crate::{context, error, panic};

/// A function that makes an awaitable.
type Make = dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send;

/// An awaitable that has not been started, and perhaps not been made.
pub(super) enum Source {
    Object(Py<PyAny>),
    /// It is called on the event loop's thread, when the awaitable is to be started.
    Function(Box<Make>),
}

impl Source {
    /// The awaitable. A function, which is the user's code, is called in the context.
    pub(super) fn awaitable<'py>(self, context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = context.py();
        let make = match self {
            Self::Object(awaitable) => return Ok(awaitable.into_bound(py)),
            Self::Function(make) => make,
        };
        let awaitable = context::within(context, || panic::catch(|| make(py)))?.map_err(error::panicked)??;
        if is_awaitable(&awaitable)? { Ok(awaitable) } else { Err(error::not_awaitable(&awaitable)) }
    }

    /// Ends an awaitable whose Rust future was dropped while it was on its way. A function is not called.
    pub(super) fn end(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Object(awaitable) => end_unstarted(awaitable.bind(py)),
            Self::Function(make) => panic::catch(|| drop(make)).map_err(error::panicked),
        }
    }

    /// Keeps an awaitable that the loop had no turn to start from warning that nobody awaited it.
    pub(super) fn close(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Object(awaitable) => close_unstarted(awaitable.bind(py)).map(drop),
            Self::Function(_) => self.end(py),
        }
    }
}
