//! Rust stream -> Python asynchronous iterator.

use std::{
    collections::VecDeque,
    ffi::CStr,
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pyo3::{
    exceptions::{PyBaseException, PyStopAsyncIteration},
    prelude::*,
    types::{PyBool, PyString, PyType},
};

use super::{
    polled::Polled,
    step::{Call, Step},
};
use crate::{
    class::{self, Arguments, AsyncIterate, Class, Get, Members, Object, Protocol, Visit},
    error,
    lifecycle::Process,
    once::PyOnce,
    panic,
    path::Path,
    sync::SpinLock,
    task,
};

/// A Rust stream, as the Python side knows it.
///
/// One operation at a time: whoever calls is the iterator's only operation.
pub(super) trait Source: Send + Sync {
    /// Refuses a thread that must not touch the stream. The first thing that any operation asks.
    fn check_thread(&self) -> PyResult<()> {
        Ok(())
    }

    /// Called before the first item is asked for, until it has not failed; not when it is closed.
    fn start(&self, py: Python<'_>) -> PyResult<()>;

    /// The next item, as a Python object; `None` at the end, which an error is too.
    ///
    /// If there are items at hand that come after it, some of them may be put into `ahead`, which is empty.
    fn poll_next<'py>(
        &self,
        py: Python<'py>,
        cx: &mut Context<'_>,
        ahead: &mut Ahead,
    ) -> Poll<Option<PyResult<Bound<'py, PyAny>>>>;

    /// Has the stream dropped, and is ready when it is.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<PyResult<()>>;

    /// Has the stream dropped, without waiting for it.
    fn abandon(self: Arc<Self>);

    /// The path of the stream's type, or of the function that it was written in.
    fn path(&self) -> Path;
}

/// Converts an item.
pub(super) fn item_into_python<T>(py: Python<'_>, item: T) -> PyResult<Bound<'_, PyAny>>
where
    T: for<'py> IntoPyObject<'py> + 'static,
{
    converting(py, || Ok(task::into_python(py, item)?.into_bound(py)))
}

/// Calls what converts items, which is the user's code. What that raises must not look like the end of the iteration.
pub(super) fn converting<T>(py: Python<'_>, convert: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let converted = panic::catch(convert).unwrap_or_else(|panic| Err(error::panicked(panic)));
    converted.map_err(|error| error::not_stop_async_iteration(py, error))
}

/// The contents of the Python object.
pub(super) struct AsyncIterator {
    pub(super) source: Arc<dyn Source>,
    /// Where it was made: what it refers to is nobody's in another process.
    pub(super) process: Process,
    pub(super) state: SpinLock<State>,
}

/// What comes next, and has been converted.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) items: VecDeque<Py<PyAny>>,
    /// Why the item after these could not be converted.
    pub(super) failed: Option<Py<PyBaseException>>,
}

/// What changes from item to item.
#[derive(Default)]
pub(super) struct State {
    /// An operation is under way, as in `ag_running`.
    pub(super) running: bool,
    /// It has been asked for an item.
    pub(super) started: bool,
    /// It has ended, raised or been closed.
    over: bool,
    /// What is at hand. Nothing while an operation waits, nor when it is over.
    pub(super) ahead: Ahead,
    /// The awaitable of the last item.
    pub(super) spare: Option<Py<Object<Polled<Step>>>>,
}

/// An iterator over a stream that has not been started.
pub(super) fn new(py: Python<'_>, source: Arc<dyn Source>) -> PyResult<Bound<'_, PyAny>> {
    let iterator = AsyncIterator { source, process: Process::current(), state: SpinLock::default() };
    Ok(class::new(py, iterator)?.into_any())
}

/// What a [`Step`] does when it is the only operation.
impl AsyncIterator {
    /// Whether it has been asked for an item, and whether it is over.
    pub(super) fn progress(&self, py: Python<'_>) -> (bool, bool) {
        let state = self.state.lock(py);
        (state.started, state.over)
    }

    pub(super) fn poll_next<'py>(&self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>> {
        let mut ahead = {
            let mut state = self.state.lock(py);
            if state.over {
                return Poll::Ready(Err(PyStopAsyncIteration::new_err(())));
            }
            // `asend` comes here for what is at hand, too.
            if let Some(item) = state.ahead.items.pop_front() {
                return Poll::Ready(Ok(item.into_bound(py)));
            }
            mem::take(&mut state.ahead)
        };
        let item = match ahead.failed.take() {
            Some(error) => Some(Err(error::of_object(py, error))),
            None => ready!(self.source.poll_next(py, cx, &mut ahead)),
        };
        if let Some(Ok(item)) = item {
            self.state.lock(py).ahead = ahead;
            return Poll::Ready(Ok(item));
        }
        self.finish(py);
        Arc::clone(&self.source).abandon();
        Poll::Ready(item.unwrap_or_else(|| Err(PyStopAsyncIteration::new_err(()))))
    }

    pub(super) fn poll_close(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<()>> {
        self.finish(py);
        self.source.poll_close(cx)
    }

    /// Nobody is to get an item any more.
    fn finish(&self, py: Python<'_>) {
        let ahead = {
            let mut state = self.state.lock(py);
            state.over = true;
            mem::take(&mut state.ahead)
        };
        drop(ahead);
    }
}

impl Drop for AsyncIterator {
    fn drop(&mut self) {
        let source = Arc::clone(&self.source);
        if self.process.is_current() { source.abandon() } else { mem::forget(source) }
    }
}

impl AsyncIterate for AsyncIterator {
    fn next<'py>(this: &Bound<'py, Object<Self>>) -> PyResult<Bound<'py, PyAny>> {
        Step::awaitable(this, Call::Next)
    }

    fn next_at_hand<'py>(this: &Bound<'py, Object<Self>>) -> Option<Bound<'py, PyAny>> {
        Step::next_at_hand(this)
    }
}

impl Class for AsyncIterator {
    const NAME: &'static CStr = c"pyo3_await.AsyncIterator";

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    fn protocol() -> Protocol {
        Protocol::async_iterator::<Self>()
    }

    fn members(_: Python<'_>) -> Members<Self> {
        Members::new()
            .method_with(c"asend", asend)
            .method_with(c"athrow", athrow)
            .method(c"aclose", aclose)
            .get(c"__name__", name)
            .get(c"__qualname__", qualified_name)
            .get(c"ag_running", running)
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let name = this.get().source.path().qualified_name();
        Ok(format!("<async iterator object {name} at {:p}>", this.as_ptr()))
    }

    /// For the rest it holds Rust values.
    fn traverse(&self, visit: &Visit) {
        let Some(state) = self.state.try_lock(visit.attached()) else { return };
        state.ahead.items.iter().for_each(|item| visit.call(item));
        state.ahead.failed.iter().for_each(|error| visit.call(error));
        state.spare.iter().for_each(|spare| visit.call(spare));
    }

    /// The awaitable that is kept refers to nothing.
    fn clear(&self, py: Python<'_>) {
        let ahead = mem::take(&mut self.state.lock(py).ahead);
        drop(ahead);
    }
}

type This<'py> = Bound<'py, Object<AsyncIterator>>;

fn asend<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("asend", 1, 1, &[])?;
    let something = arguments.positional(0).is_some_and(|value| !value.is_none());
    Step::awaitable(this, Call::Send(something))
}

fn athrow<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let error = class::thrown("athrow", arguments)?;
    Step::awaitable(this, Call::Throw(Some(error.into_value(this.py()))))
}

fn aclose<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Step::awaitable(this, Call::Close)
}

fn name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::new(this.py(), this.get().source.path().name()).into_any())
}

fn qualified_name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::new(this.py(), &this.get().source.path().qualified_name()).into_any())
}

fn running<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyBool::new(this.py(), this.get().state.lock(this.py()).running).to_owned().into_any())
}
