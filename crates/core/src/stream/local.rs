//! A stream that stays on the event loop's thread.
//!
//! It need not be `Send`: the loop's thread polls it when it is asked for an item, and drops it, and nobody else.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, ready},
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
    sync::OnThread,
};

struct Local<R: Runtime, S> {
    runtime: R,
    /// That in which the first item was asked for: by it a stream that is garbage for another thread comes to its own.
    event_loop: OnceLock<Weak<EventLoop>>,
    /// `None` when it has ended.
    stream: OnThread<Option<Pin<Box<S>>>>,
}

/// A source for a stream that is polled on this thread.
pub(super) fn new<R, S, T>(runtime: R, stream: S) -> Arc<dyn Source>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    Arc::new(Local { runtime, event_loop: OnceLock::new(), stream: OnThread::new(Some(Box::pin(stream))) })
}

impl<R: Runtime, S> Local<R, S> {
    /// Calls `f` with the stream, if this is its thread and nothing up the stack has it, and catches a panic.
    fn with_stream<T>(&self, f: impl FnOnce(&mut Option<Pin<Box<S>>>) -> T) -> PyResult<Result<T, Panic>> {
        let called = self.stream.with(|stream| panic::catch(|| self.runtime.enter(|| f(stream))));
        // Whoever asks for an item in the course of a poll is refused before.
        called.map_err(|_| self.wrong_thread())
    }

    fn wrong_thread(&self) -> PyErr {
        error::wrong_thread("stream", Path::of::<S>().name(), "into_async_iterator")
    }

    fn close(&self) -> PyResult<Result<(), Panic>> {
        self.with_stream(|stream| drop(stream.take()))
    }

    /// The same, where nobody can catch a panic.
    fn drop_stream(&self) {
        if let Ok(Err(panic)) = self.close() {
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
        if self.stream.is_here() { Ok(()) } else { Err(self.wrong_thread()) }
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
            Err(error) => Some(Err(error)),
            Ok(Err(panic)) => Some(Err(error::panicked(panic))),
            Ok(Ok(item)) => match ready!(item) {
                None => None,
                Some(Err(error)) => Some(Err(error::not_stop_async_iteration(py, error))),
                Some(Ok(item)) => Some(item_into_python(py, item)),
            },
        })
    }

    fn poll_close(&self, _: &mut Context<'_>) -> Poll<PyResult<()>> {
        Poll::Ready(self.close().and_then(|closed| closed.map_err(error::panicked)))
    }

    fn abandon(self: Arc<Self>) {
        if self.stream.is_here() {
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
