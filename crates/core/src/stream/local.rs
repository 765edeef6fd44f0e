//! A stream that stays on the event loop's thread.
//!
//! It need not be `Send`: the loop's thread polls it when it is asked for an item, and drops it, and nobody else.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    thread::{self, ThreadId},
};

use futures_core::Stream;
use pyo3::prelude::*;

use super::into_python::{Ahead, Source, item_into_python};
use crate::{
    Runtime, error,
    event_loop::{Delivery, Envelope, EventLoop, Letter},
    lifecycle,
    locals::OnDemand,
    panic::{self, Panic},
    path::Path,
    runtime::refuse_left_behind,
};

struct Local<R: Runtime, S> {
    runtime: R,
    /// The only thread that may touch `stream`: that on which it was made.
    thread: ThreadId,
    /// That in which the first item was asked for: by it a stream that is garbage for another thread comes to its own.
    event_loop: OnceLock<Weak<EventLoop>>,
    /// Whoever has turned it true may touch `stream`. Only the loop's thread uses it.
    touched: AtomicBool,
    /// `None` when it has ended.
    stream: UnsafeCell<ManuallyDrop<Option<Pin<Box<S>>>>>,
}

// SAFETY: `stream` is touched on `thread` only, by `with_stream`, which checks that; the rest is `Sync`.
unsafe impl<R: Runtime, S> Sync for Local<R, S> {}
// SAFETY: as above; what is dropped on another thread leaks its stream.
unsafe impl<R: Runtime, S> Send for Local<R, S> {}

/// A source for a stream that is polled on this thread.
pub(super) fn new<R, S, T>(runtime: R, stream: S) -> Arc<dyn Source>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    Arc::new(Local {
        runtime,
        thread: this_thread(),
        event_loop: OnceLock::new(),
        touched: AtomicBool::new(false),
        stream: UnsafeCell::new(ManuallyDrop::new(Some(Box::pin(stream)))),
    })
}

/// The calling thread, without a reference to it being counted.
fn this_thread() -> ThreadId {
    thread_local! {
        static ID: ThreadId = thread::current().id();
    }
    // While the thread ends there may be no thread-locals left.
    ID.try_with(|id| *id).unwrap_or_else(|_| thread::current().id())
}

impl<R: Runtime, S> Local<R, S> {
    /// Calls `f` with the stream, if this is its thread and nothing up the stack has it, and catches a panic.
    fn with_stream<T>(&self, f: impl FnOnce(&mut Option<Pin<Box<S>>>) -> T) -> Option<Result<T, Panic>> {
        if self.thread != this_thread() || self.touched.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: this is the stream's thread, and `touched` says that no other frame of it is here.
        let stream = unsafe { &mut **self.stream.get() };
        let result = panic::catch(|| self.runtime.enter(|| f(stream)));
        self.touched.store(false, Ordering::Relaxed);
        Some(result)
    }

    fn wrong_thread(&self) -> PyErr {
        error::wrong_thread("stream", Path::of::<S>().name(), "into_async_iterator")
    }

    fn close(&self) -> Option<Result<(), Panic>> {
        self.with_stream(|stream| drop(stream.take()))
    }

    /// The same, where nobody can catch a panic.
    fn drop_stream(&self) {
        if let Some(Err(panic)) = self.close() {
            error::report_panic(panic);
        }
    }
}

/// A stream that is to be dropped, on its way to the thread that may do so.
struct Garbage<R: Runtime, S>(Arc<Local<R, S>>);

impl<R: Runtime, S: 'static> Letter for Garbage<R, S> {
    fn deliver(envelope: Arc<Envelope<Self>>, _: &Delivery<'_, '_>) -> PyResult<()> {
        envelope.letter.0.drop_stream();
        Ok(())
    }

    fn refuse(envelope: Arc<Envelope<Self>>, _: Option<Python<'_>>) {
        // The loop is closed, on its own thread for the most part.
        envelope.letter.0.drop_stream();
    }
}

impl<R, S, T> Source for Local<R, S>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    fn check_thread(&self) -> PyResult<()> {
        if self.thread == this_thread() { Ok(()) } else { Err(self.wrong_thread()) }
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let _pass = lifecycle::admit(py)?;
        refuse_left_behind(&self.runtime)?;
        if let Some(event_loop) = EventLoop::running(py)? {
            let _ = self.event_loop.set(Arc::downgrade(&event_loop));
        }
        Ok(())
    }

    /// It is not ahead of its consumer: there is never more than one item.
    fn poll_next<'py>(
        &self,
        py: Python<'py>,
        cx: &mut Context<'_>,
        _: &mut Ahead,
    ) -> Poll<Option<PyResult<Bound<'py, PyAny>>>> {
        let admitted = lifecycle::admit(py).and_then(|pass| refuse_left_behind(&self.runtime).map(|()| pass));
        let _pass = match admitted {
            Ok(pass) => pass,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let polled = self.with_stream(|stream| {
            let Some(stream) = stream else { return Poll::Ready(None) };
            // Locals are made on demand, in the context of whoever awaits.
            let mut locals = None;
            let _on_demand = OnDemand::new(&mut locals);
            stream.as_mut().poll_next(cx)
        });
        Poll::Ready(match polled {
            None => Some(Err(self.wrong_thread())),
            Some(Err(panic)) => Some(Err(error::panicked(panic))),
            Some(Ok(item)) => match ready!(item) {
                None => None,
                Some(Err(error)) => Some(Err(error::not_stop_async_iteration(py, error))),
                Some(Ok(item)) => Some(item_into_python(py, item)),
            },
        })
    }

    fn poll_close(&self, _: &mut Context<'_>) -> Poll<PyResult<()>> {
        Poll::Ready(match self.close() {
            None => Err(self.wrong_thread()),
            Some(result) => result.map_err(error::panicked),
        })
    }

    fn abandon(self: Arc<Self>) {
        if self.thread == this_thread() {
            self.drop_stream();
        } else if let Some(event_loop) = self.event_loop.get().and_then(Weak::upgrade) {
            // Python's garbage collector runs in any thread.
            event_loop.post(Envelope::new(Garbage(self)));
        }
    }

    fn path(&self) -> Path {
        Path::of::<S>()
    }
}
