//! A stream that runs on its runtime.
//!
//! A [`Driver`] on the runtime moves items from the stream into a buffer, until that is full; the consumer, on the
//! event loop's thread, takes them out.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pyo3::prelude::*;

use super::{
    buffer::{Buffer, Room, Taken},
    into_python::{Ahead, Source, converting},
};
use crate::{
    Runtime, TaskLocals, error, lifecycle,
    locals::Lent,
    panic::{self, Panic},
    path::Path,
    sync::Lock,
    task::into_python,
};

/// How many items one poll of the driver may take from a stream that is always ready.
const ROUNDS: usize = 256;

/// How many items are converted at a time.
const CONVERTED: usize = 16;

/// A stream, before and after it is given to its runtime.
struct Spawned<R: Runtime, S, T> {
    runtime: R,
    /// `None` when it has been started or closed.
    stream: Lock<Option<Pin<Box<S>>>>,
    /// What has been taken out of the buffer, for the iterator's one operation.
    batch: Lock<VecDeque<T>>,
    buffer: Arc<Buffer<T, End>>,
    /// The stream is known to have been dropped.
    gone: AtomicBool,
}

/// How a stream has ended. It has been dropped then.
enum End {
    /// Of itself, or because it was closed.
    Finished,
    Failed(PyErr),
    Panicked(Panic),
    /// The runtime has dropped it.
    Abandoned,
}

/// A source for a stream that runs on `runtime`.
pub(super) fn new<R, S, T>(runtime: R, stream: S, capacity: usize) -> Arc<dyn Source>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Arc::new(Spawned {
        runtime,
        stream: Lock::new(Some(Box::pin(stream))),
        batch: Lock::default(),
        buffer: Arc::new(Buffer::new(capacity)),
        gone: AtomicBool::new(false),
    })
}

impl<R, S, T> Spawned<R, S, T>
where
    R: Runtime,
{
    /// Takes the next batch out of the buffer, and the first item out of that.
    fn take(&self, cx: &mut Context<'_>) -> Poll<Result<T, End>> {
        // The batch is locked for the time of a statement.
        let mut taken = self.buffer.take(&mut self.batch.lock(), false);
        if let Taken::Nothing = taken {
            // First the waker, then another look: what comes after that finds the waker.
            self.buffer.consumer.register(cx.waker());
            taken = self.buffer.take(&mut self.batch.lock(), true);
        }
        match taken {
            Taken::Item { item, wake } => {
                if wake {
                    self.buffer.producer.wake();
                }
                Poll::Ready(Ok(item))
            }
            Taken::End(end) => {
                self.gone.store(true, Ordering::Relaxed);
                Poll::Ready(Err(end))
            }
            Taken::Nothing => Poll::Pending,
        }
    }
}

impl<R, S, T> Spawned<R, S, T>
where
    R: Runtime,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    /// Converts an item, and some of those at hand that come after it, so that the precautions that conversions call
    /// for are taken once for all.
    ///
    /// # Errors
    ///
    /// Why the item could not be converted, and what ends the process. Any other error of a conversion is that of its
    /// item, and comes in its turn.
    fn convert<'py>(&self, py: Python<'py>, item: T, ahead: &mut Ahead) -> PyResult<Bound<'py, PyAny>> {
        // Nothing is locked while the user's code runs.
        let mut batch = mem::take(&mut *self.batch.lock());
        let mut first = None;
        let converted = converting(py, || {
            first = Some(into_python(py, item)?);
            for _ in 1..CONVERTED {
                let Some(next) = batch.pop_front() else { break };
                ahead.items.push_back(into_python(py, next)?);
            }
            Ok(())
        });
        *self.batch.lock() = batch;
        match (first, converted) {
            (Some(first), Ok(())) => Ok(first.into_bound(py)),
            (Some(first), Err(error)) if !error::ends_the_process(py, &error) => {
                ahead.failed = Some(error.into_value(py));
                Ok(first.into_bound(py))
            }
            (_, Err(error)) => Err(error),
            (None, Ok(())) => unreachable!("the first was converted"),
        }
    }
}

impl<R, S, T> Source for Spawned<R, S, T>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    /// Gives it to the runtime.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let _pass = lifecycle::admit(py)?;
        let Some(locals) = TaskLocals::running(py)? else {
            let what = format!("__anext__() of the Rust stream '{}'", self.path().name());
            return Err(error::no_running_event_loop(&what));
        };
        let stream = self.stream.lock().take();
        if stream.is_some() {
            self.runtime.spawn(Driver { stream, buffer: Arc::clone(&self.buffer), locals });
        }
        Ok(())
    }

    fn poll_next<'py>(
        &self,
        py: Python<'py>,
        cx: &mut Context<'_>,
        ahead: &mut Ahead,
    ) -> Poll<Option<PyResult<Bound<'py, PyAny>>>> {
        let next = self.batch.lock().pop_front();
        let item = match next {
            Some(item) => item,
            None => match ready!(self.take(cx)) {
                Ok(item) => item,
                Err(end) => return Poll::Ready(end.into_error(py, self.path()).map(Err)),
            },
        };
        Poll::Ready(Some(self.convert(py, item, ahead)))
    }

    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<PyResult<()>> {
        if let Some(panic) = self.close().map_err(error::panicked)? {
            return Poll::Ready(Err(error::panicked(panic)));
        }
        if self.gone.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        // First the waker, then a look: an end that comes after that finds the waker.
        self.buffer.consumer.register(cx.waker());
        let Some(end) = self.buffer.ended() else { return Poll::Pending };
        self.gone.store(true, Ordering::Relaxed);
        Poll::Ready(match end {
            End::Panicked(panic) => Err(error::panicked(panic)),
            End::Finished | End::Failed(_) | End::Abandoned => Ok(()),
        })
    }

    fn abandon(self: Arc<Self>) {
        if let Err(panic) = self.close() {
            error::report_panic(panic);
        }
    }

    fn path(&self) -> Path {
        Path::of::<S>()
    }
}

impl<R: Runtime, S, T> Spawned<R, S, T> {
    /// Has the stream and its items dropped: here, if it was not started. Gives the panic by which it has ended.
    fn close(&self) -> Result<Option<Panic>, Panic> {
        let stream = self.stream.lock().take();
        let batch = mem::take(&mut *self.batch.lock());
        let (items, end) = self.buffer.close();
        if stream.is_some() || end.is_some() {
            self.gone.store(true, Ordering::Relaxed);
        }
        let (panic, end) = match end {
            Some(End::Panicked(panic)) => (Some(panic), None),
            end => (None, end),
        };
        // tokio's types, for one, want their runtime also for being dropped.
        panic::catch(|| self.runtime.enter(|| drop((stream, batch, items, end)))).map(|()| panic)
    }
}

/// What the runtime polls: it owns the stream.
struct Driver<S, T>
where
    S: Stream<Item = PyResult<T>>,
{
    /// `None` when it has ended.
    stream: Option<Pin<Box<S>>>,
    buffer: Arc<Buffer<T, End>>,
    locals: TaskLocals,
}

impl<S, T> Driver<S, T>
where
    S: Stream<Item = PyResult<T>>,
{
    /// Moves items until the stream or the buffer wants to wait, or the stream has ended.
    fn fill(buffer: &Buffer<T, End>, mut stream: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<End> {
        let mut room = buffer.room();
        for _ in 0..ROUNDS {
            match room {
                Room::For(_) => {}
                Room::None => return Poll::Pending,
                Room::Closed => return Poll::Ready(End::Finished),
            }
            room = match stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => buffer.push(item),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(None) => return Poll::Ready(End::Finished),
                Poll::Pending => return Poll::Pending,
            }
        }
        // Whoever else is on this worker shall have a turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Drops the stream, if it is still there, and then tells the consumer.
    fn end(&mut self, end: End) {
        let Some(stream) = self.stream.take() else { return };
        let dropped = {
            let _lent = Lent::new(&self.locals);
            panic::catch(|| drop(stream))
        };
        self.buffer.end(dropped.map_or_else(End::Panicked, |()| end));
    }
}

impl<S, T> Future for Driver<S, T>
where
    S: Stream<Item = PyResult<T>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(()) };
        // When the interpreter is ending nobody waits for the stream any more: it stays as it is.
        let Some(_pass) = lifecycle::enter() else { return Poll::Pending };
        // First the waker, then a look at the buffer: who makes room after that finds the waker.
        this.buffer.producer.register(cx.waker());
        let polled = {
            let _lent = Lent::new(&this.locals);
            panic::catch(|| Self::fill(&this.buffer, stream.as_mut(), cx))
        };
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(end)) => this.end(end),
            Err(panic) => this.end(End::Panicked(panic)),
        }
        Poll::Ready(())
    }
}

impl<S, T> Drop for Driver<S, T>
where
    S: Stream<Item = PyResult<T>>,
{
    fn drop(&mut self) {
        match lifecycle::enter() {
            Some(_pass) => self.end(End::Abandoned),
            // The stream may have Python objects, or code that attaches when it is dropped: it is leaked.
            None => mem::forget((self.stream.take(), Arc::clone(&self.buffer), self.locals.clone())),
        }
    }
}

impl End {
    /// What Python gets for it, if it is not the mere end.
    fn into_error(self, py: Python<'_>, path: Path) -> Option<PyErr> {
        match self {
            Self::Finished => None,
            Self::Failed(error) => Some(error::not_stop_async_iteration(py, error)),
            Self::Panicked(panic) => Some(error::panicked(panic)),
            Self::Abandoned => Some(error::abandoned("stream", path.name())),
        }
    }
}
