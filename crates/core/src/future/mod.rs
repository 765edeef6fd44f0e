//! Python awaitable -> Rust future.

mod call;
mod schedule;
mod source;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
};

use pyo3::prelude::*;

pub(crate) use self::call::{Call, make_types};
use self::{
    call::{Polled, Wish},
    schedule::is_awaitable,
    source::Source,
};
use crate::{TaskLocals, error, event_loop::Envelope, locals};

/// Turns a Python awaitable into a Rust future, with the current [`TaskLocals`].
///
/// The awaitable may be a coroutine, an asyncio future or task, or any object with `__await__`.
/// Nothing happens before the first poll, which may be on any thread; then the awaitable is run as a task of the event
/// loop, in a copy of the locals' context.
///
/// # Errors
///
/// `TypeError` when the object is not awaitable, and `RuntimeError` when there are no locals: call it inside a
/// coroutine or [`scope`](crate::scope), or use [`TaskLocals::into_future`].
pub fn into_future(awaitable: Bound<'_, PyAny>) -> PyResult<PythonFuture> {
    TaskLocals::current(awaitable.py())?.into_future(awaitable)
}

/// Has a Python awaitable made where it runs, and turns it into a Rust future, with the current [`TaskLocals`].
///
/// As [`into_future`], but `make` is called on the event loop's thread, attached to Python, when the future is polled
/// first; in the same copy of the locals' context the awaitable runs.
/// So the thread that awaits does not attach, nor wait for the interpreter: from a runtime's worker thread this is many
/// times faster.
///
/// ```
/// use std::sync::Arc;
/// use pyo3::prelude::*;
///
/// async fn call(function: Arc<Py<PyAny>>) -> PyResult<Py<PyAny>> {
///     pyo3_await::into_future_with(move |py| function.bind(py).call0())?.await
/// }
/// ```
///
/// `make` holds up the event loop as any callback does.
///
/// # Errors
///
/// `RuntimeError` when there are no locals: call it inside a coroutine or [`scope`](crate::scope), or use
/// [`TaskLocals::into_future_with`]. So it is, built for the stable ABI (`abi3`), in a Python function that the loop
/// calls: there it knows the locals of Rust tasks only.
/// The future gives what `make` returns as `Err`, [`RustPanic`](crate::RustPanic) when it panics, and `TypeError` when
/// what it returns is not awaitable.
///
/// # Cancellation
///
/// If the future is dropped before `make` was called, it is not called; later, as for [`into_future`].
pub fn into_future_with<F>(make: F) -> PyResult<PythonFuture>
where
    F: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
{
    let locals = locals::inherited()?.ok_or_else(error::no_event_loop)?;
    Ok(locals.into_future_with(make))
}

/// A Python awaitable, as a Rust future.
///
/// The output is what the awaitable returns or raises.
/// If the event loop is closed before the awaitable has ended, it is `RuntimeError`.
///
/// # Cancellation
///
/// Dropping the future cancels the Python task, as cancelling an `await` does: a task or future that others wait for
/// too is cancelled for them as well (Python's `asyncio.shield` keeps it from that).
/// [`detach`](Self::detach) lets it run on.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "a future does nothing until it is polled"]
pub struct PythonFuture {
    call: Arc<Envelope<Call>>,
}

impl PythonFuture {
    pub(crate) fn new(locals: TaskLocals, awaitable: Bound<'_, PyAny>) -> PyResult<Self> {
        if !is_awaitable(&awaitable)? {
            return Err(error::not_awaitable(&awaitable));
        }
        Ok(Self::unchecked(locals, awaitable, None))
    }

    /// A future for what is known to be awaitable, and may say that it is ending.
    pub(crate) fn unchecked(locals: TaskLocals, awaitable: Bound<'_, PyAny>, ending: Option<Arc<AtomicBool>>) -> Self {
        Self::of(locals, Source::Object(awaitable.unbind()), ending)
    }

    pub(crate) fn made_by<F>(locals: TaskLocals, make: F) -> Self
    where
        F: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    {
        Self::of(locals, Source::Function(Box::new(make)), None)
    }

    fn of(locals: TaskLocals, source: Source, ending: Option<Arc<AtomicBool>>) -> Self {
        Self { call: Envelope::new(Call::new(locals, source, ending)) }
    }

    /// Lets the awaitable run to its end, with nobody to wait for it.
    ///
    /// It is started if it was not yet.
    /// An exception that it raises goes where asyncio reports those of its tasks.
    pub fn detach(self) {
        Call::let_go(&self.call, Wish::RunOn);
    }
}

impl Future for PythonFuture {
    type Output = PyResult<Py<PyAny>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // It is cloned before the lock is taken: a waker is the user's code. A poll that brings the same one as the
        // last needs no clone.
        let mut waker = None;
        loop {
            match self.call.letter.poll(cx.waker(), &mut waker) {
                Polled::Ready(result) => return Poll::Ready(result),
                Polled::Pending => return Poll::Pending,
                Polled::Posted => {
                    Call::post(&self.call);
                    return Poll::Pending;
                }
                Polled::WantsWaker => waker = Some(cx.waker().clone()),
                Polled::Over => panic!("a PythonFuture was polled after it was ready"),
            }
        }
    }
}

impl Drop for PythonFuture {
    fn drop(&mut self) {
        Call::let_go(&self.call, Wish::Cancel);
    }
}

impl fmt::Debug for PythonFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonFuture").finish_non_exhaustive()
    }
}
