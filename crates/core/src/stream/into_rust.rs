//! Python asynchronous iterable -> Rust stream.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::Future as _,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
};

use futures_core::Stream;
use pyo3::prelude::*;

use super::{
    CAPACITY,
    buffer::{Buffer, Taken},
    protocol::is_async_iterable,
    pump,
};
use crate::{PythonFuture, TaskLocals, error};

/// Turns a Python asynchronous iterable into a Rust stream, with the current [`TaskLocals`].
///
/// The iterable may be an asynchronous generator, or any object with `__aiter__`.
/// Nothing happens before the first poll, which may be on any thread; then a task of the event loop iterates over it,
/// in a copy of the locals' context, until it is 1,024 items ahead of Rust: see [`PythonStream::with_capacity`].
///
/// # Errors
///
/// `TypeError` when the object is not an asynchronous iterable, and `RuntimeError` when there are no locals: call it
/// inside a coroutine or [`scope`](crate::scope), or use [`TaskLocals::into_stream`].
#[doc(alias = "into_stream_v1", alias = "into_stream_v2")]
pub fn into_stream(async_iterable: Bound<'_, PyAny>) -> PyResult<PythonStream> {
    TaskLocals::current(async_iterable.py())?.into_stream(async_iterable)
}

/// A Python asynchronous iterable, as a Rust stream.
///
/// Its items are what the iterable yields.
/// An exception is an `Err`, and then the stream ends; so does an event loop that is closed before, by `RuntimeError`.
///
/// Each item is a reference to a Python object: whoever wants to look at it attaches to Python.
/// That costs more than all the rest; `ready_chunks` of the `futures` crate gives many items for one attachment.
///
/// # Cancellation
///
/// Dropping the stream ends the iteration: an asynchronous generator is closed as by its `aclose`, in the task that ran
/// it, so that its `finally` blocks run, on the event loop and after the drop.
/// A generator that waits for something has that wait cancelled.
/// If the event loop ends meanwhile, it cancels the clean-up as it does with every task.
///
/// # Panics
///
/// Never when it is polled, also after its end.
#[must_use = "a stream does nothing until it is polled"]
pub struct PythonStream {
    /// What has been taken out of the buffer.
    batch: VecDeque<Py<PyAny>>,
    buffer: Arc<Items>,
    /// The task that iterates; `None` when it has ended.
    task: Option<PythonFuture>,
    /// What it has raised, which comes after the items.
    error: Option<PyErr>,
}

/// What is between the stream and its task. The task's end says how the iteration has ended.
pub(super) type Items = Buffer<Py<PyAny>, Infallible>;

impl PythonStream {
    pub(crate) fn new(locals: TaskLocals, async_iterable: Bound<'_, PyAny>) -> PyResult<Self> {
        if !is_async_iterable(&async_iterable)? {
            return Err(error::not_async_iterable(&async_iterable));
        }
        let buffer = Arc::new(Buffer::new(CAPACITY));
        let ending = Arc::new(AtomicBool::new(false));
        let pump = pump::new(async_iterable, Arc::clone(&buffer), Arc::clone(&ending))?;
        let task = Some(PythonFuture::unchecked(locals, pump, Some(ending)));
        Ok(Self { batch: VecDeque::new(), buffer, task, error: None })
    }

    /// Sets how many items the iterable may be ahead of Rust.
    ///
    /// To be called before the first poll; later it has no effect on what is buffered already.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    pub fn with_capacity(self, capacity: usize) -> Self {
        self.buffer.set_capacity(capacity);
        self
    }

    /// The next item that is in the buffer.
    fn take(&mut self, wait: bool) -> Option<Py<PyAny>> {
        match self.buffer.take(&mut self.batch, wait) {
            Taken::Item { item, wake } => {
                if wake {
                    self.buffer.producer.wake();
                }
                Some(item)
            }
            Taken::Nothing => None,
            Taken::End(never) => match never {},
        }
    }
}

impl Stream for PythonStream {
    type Item = PyResult<Py<PyAny>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(item) = this.batch.pop_front().or_else(|| this.take(false)) {
            return Poll::Ready(Some(Ok(item)));
        }
        if let Some(task) = &mut this.task {
            // First the waker, then another look: what comes after that finds the waker.
            this.buffer.consumer.register(cx.waker());
            let ended = Pin::new(task).poll(cx);
            let pending = ended.is_pending();
            if let Poll::Ready(result) = ended {
                (this.task, this.error) = (None, result.err());
            }
            // What it has yielded before its end comes first.
            if let Some(item) = this.take(pending) {
                return Poll::Ready(Some(Ok(item)));
            }
            if pending {
                return Poll::Pending;
            }
        }
        Poll::Ready(this.error.take().map(Err))
    }
}

impl Drop for PythonStream {
    fn drop(&mut self) {
        // The items are Python objects, released by whoever attaches next. A task that finds it closed cleans up; one
        // that waits for something is cancelled by the future's drop.
        drop(self.buffer.close());
    }
}

impl fmt::Debug for PythonStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonStream").finish_non_exhaustive()
    }
}
