//! A stream that runs on its runtime, and the buffer between it and the event loop.
//!
//! A [`Driver`] on the runtime moves items from the stream into the buffer, until that is full.
//! The consumer, on the event loop's thread, takes them out in batches of half the buffer at most, so that the driver
//! can fill one half while the other is consumed.
//! Each side wakes the other only when that has said that it waits.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use pyo3::prelude::*;

use super::into_python::Source;
use crate::{
    Runtime, TaskLocals, error, lifecycle,
    locals::Entered,
    panic::{self, Panic},
    sync::Lock,
    task,
};

/// How many items one poll of the driver may take from a stream that is always ready.
const ROUNDS: usize = 256;

/// A stream, before and after it is given to its runtime.
struct Spawned<R: Runtime, S, T> {
    runtime: R,
    /// `None` when it has been started or closed.
    stream: Lock<Option<Pin<Box<S>>>>,
    /// What has been taken out of the buffer, for the iterator's one operation.
    batch: Lock<VecDeque<T>>,
    shared: Arc<Shared<T>>,
}

/// What the consumer and the driver have in common.
struct Shared<T> {
    capacity: usize,
    buffer: Lock<Buffer<T>>,
    /// The runtime's waker, registered by the driver at each poll.
    driver: AtomicWaker,
    /// The waker of the operation that waits.
    consumer: AtomicWaker,
}

struct Buffer<T> {
    items: VecDeque<T>,
    /// How many items the last batch had, but for the first, which is consumed at once.
    /// They count as buffered until the next batch is taken.
    taken: usize,
    /// The driver waits until there is room.
    full: bool,
    /// The consumer waits until there are items, or the end.
    empty: bool,
    /// Nobody wants any items.
    closed: bool,
    /// Set when the stream has been dropped.
    end: Option<End>,
}

/// How a stream has ended.
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
    assert!(capacity > 0, "the capacity of an asynchronous iterator is at least one item");
    let buffer = Buffer { items: VecDeque::new(), taken: 0, full: false, empty: false, closed: false, end: None };
    Arc::new(Spawned {
        runtime,
        stream: Lock::new(Some(Box::pin(stream))),
        batch: Lock::default(),
        shared: Arc::new(Shared {
            capacity,
            buffer: Lock::new(buffer),
            driver: AtomicWaker::new(),
            consumer: AtomicWaker::new(),
        }),
    })
}

impl<R, S, T> Spawned<R, S, T>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    /// Gives the stream to the runtime, once.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        if self.stream.lock().is_none() {
            return Ok(());
        }
        let _pass = lifecycle::admit(py)?;
        let Some(locals) = TaskLocals::running(py)? else {
            let what = format!("__anext__() of the Rust stream '{}'", task::name(self.path()));
            return Err(error::no_running_event_loop(&what));
        };
        let stream = self.stream.lock().take();
        self.runtime.spawn(Driver { stream, shared: Arc::clone(&self.shared), locals: Some(locals) });
        Ok(())
    }

    /// Takes the next batch out of the buffer, and the first item out of that.
    fn take(&self, cx: &mut Context<'_>) -> Poll<Result<T, End>> {
        let shared = &*self.shared;
        // The batch is locked for the time of a statement.
        let mut taken = shared.take(&mut self.batch.lock(), false);
        if let Taken::Nothing = taken {
            // First the waker, then another look: what comes after that finds the waker.
            shared.consumer.register(cx.waker());
            taken = shared.take(&mut self.batch.lock(), true);
        }
        match taken {
            Taken::Item { item, wake } => {
                if wake {
                    shared.driver.wake();
                }
                Poll::Ready(Ok(item))
            }
            Taken::End(end) => Poll::Ready(Err(end)),
            Taken::Nothing => Poll::Pending,
        }
    }
}

impl<R, S, T> Source for Spawned<R, S, T>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn poll_next<'py>(&self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<Option<PyResult<Bound<'py, PyAny>>>> {
        let next = self.batch.lock().pop_front();
        let item = match next {
            Some(item) => item,
            None => {
                if let Err(error) = self.start(py) {
                    return Poll::Ready(Some(Err(error)));
                }
                match self.take(cx) {
                    Poll::Ready(Ok(item)) => item,
                    Poll::Ready(Err(end)) => return Poll::Ready(end.into_error(py, self.path()).map(Err)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        Poll::Ready(Some(task::into_python(py, item).into_result(py)))
    }

    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<PyResult<()>> {
        self.close().map_err(error::panicked)?;
        self.shared.consumer.register(cx.waker());
        match self.shared.closed() {
            Some(End::Panicked(panic)) => Poll::Ready(Err(error::panicked(panic))),
            Some(_) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    fn abandon(&self) {
        if let Err(panic) = self.close() {
            // Nobody can catch it here.
            let unraisable = |py: Python<'_>| error::panicked(panic).write_unraisable(py, None);
            Python::try_attach(unraisable);
        }
    }

    fn path(&self) -> &'static str {
        task::path::<S>()
    }
}

impl<R: Runtime, S, T> Spawned<R, S, T> {
    /// Has the stream and its items dropped: here, if it was not started.
    fn close(&self) -> Result<(), Panic> {
        let stream = self.stream.lock().take();
        let batch = mem::take(&mut *self.batch.lock());
        let items = self.shared.close(stream.is_some());
        // tokio's types, for one, want their runtime also for being dropped.
        panic::catch(|| self.runtime.enter(|| drop((stream, batch, items))))
    }
}

/// What the consumer finds in the buffer.
enum Taken<T> {
    /// The first item of a batch, and whether the driver waits for room.
    Item {
        item: T,
        wake: bool,
    },
    Nothing,
    End(End),
}

/// What the driver finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Some,
    /// The driver will be woken.
    None,
    /// Nobody wants any items.
    Closed,
}

impl<T> Shared<T> {
    /// Exchanges an empty batch for one with the oldest items. If there is nothing, `wait` says what the consumer does.
    fn take(&self, batch: &mut VecDeque<T>, wait: bool) -> Taken<T> {
        let mut buffer = self.buffer.lock();
        // Half of it, so that there is room for as much while this is consumed.
        let most = self.capacity.div_ceil(2);
        if buffer.items.len() <= most {
            mem::swap(&mut buffer.items, batch);
        } else {
            batch.extend(buffer.items.drain(..most));
        }
        let Some(item) = batch.pop_front() else {
            buffer.taken = 0;
            buffer.empty = wait && buffer.end.is_none();
            return match &mut buffer.end {
                Some(end) => Taken::End(mem::replace(end, End::Finished)),
                None => Taken::Nothing,
            };
        };
        buffer.taken = batch.len();
        Taken::Item { item, wake: mem::take(&mut buffer.full) }
    }

    /// Whether the driver may go on.
    fn room(&self, buffer: &mut Buffer<T>) -> Room {
        if buffer.closed {
            return Room::Closed;
        }
        buffer.full = buffer.items.len() + buffer.taken >= self.capacity;
        if buffer.full { Room::None } else { Room::Some }
    }

    /// Adds an item, and says whether there is room for more.
    fn push(&self, item: T) -> Room {
        let mut buffer = self.buffer.lock();
        if buffer.closed {
            // The item is the user's, and dropped when the lock is not held.
            drop(buffer);
            drop(item);
            return Room::Closed;
        }
        buffer.items.push_back(item);
        let room = self.room(&mut buffer);
        let wake = mem::take(&mut buffer.empty);
        drop(buffer);
        if wake {
            self.consumer.wake();
        }
        room
    }

    /// The driver has dropped the stream.
    fn end(&self, end: End) {
        let mut buffer = self.buffer.lock();
        buffer.end = Some(end);
        let wake = mem::take(&mut buffer.empty);
        drop(buffer);
        if wake {
            self.consumer.wake();
        }
    }

    /// Refuses items from now on, and gives those that were not taken.
    fn close(&self, unstarted: bool) -> VecDeque<T> {
        let mut buffer = self.buffer.lock();
        let first = !mem::replace(&mut buffer.closed, true);
        // How it ended before does not matter any more; how the driver ends it now does.
        let end = if first && (unstarted || buffer.end.is_some()) { buffer.end.replace(End::Finished) } else { None };
        let items = mem::take(&mut buffer.items);
        drop(buffer);
        drop(end);
        self.driver.wake();
        items
    }

    /// How a closed stream has ended; else the consumer waits for that.
    fn closed(&self) -> Option<End> {
        let mut buffer = self.buffer.lock();
        buffer.empty = buffer.end.is_none();
        buffer.end.as_mut().map(|end| mem::replace(end, End::Finished))
    }
}

/// What the runtime polls: it owns the stream.
struct Driver<S, T>
where
    S: Stream<Item = PyResult<T>>,
{
    /// `None` when it has ended.
    stream: Option<Pin<Box<S>>>,
    shared: Arc<Shared<T>>,
    /// `None` during a poll.
    locals: Option<TaskLocals>,
}

impl<S, T> Driver<S, T>
where
    S: Stream<Item = PyResult<T>>,
{
    /// Moves items until the stream or the buffer wants to wait, or the stream has ended.
    fn fill(shared: &Shared<T>, mut stream: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<End> {
        let mut room = shared.room(&mut shared.buffer.lock());
        for _ in 0..ROUNDS {
            match room {
                Room::Some => {}
                Room::None => return Poll::Pending,
                Room::Closed => return Poll::Ready(End::Finished),
            }
            room = match stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => shared.push(item),
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
        let end = match panic::catch(|| drop(stream)) {
            Ok(()) => end,
            Err(panic) => End::Panicked(panic),
        };
        self.shared.end(end);
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
        this.shared.driver.register(cx.waker());
        let polled = {
            let _entered = Entered::new(&mut this.locals);
            panic::catch(|| Self::fill(&this.shared, stream.as_mut(), cx))
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
            None => mem::forget((self.stream.take(), Arc::clone(&self.shared), self.locals.take())),
        }
    }
}

impl End {
    /// What Python gets for it, if it is not the mere end.
    fn into_error(self, py: Python<'_>, path: &str) -> Option<PyErr> {
        match self {
            Self::Finished => None,
            Self::Failed(error) => Some(error::not_stop_async_iteration(py, error)),
            Self::Panicked(panic) => Some(error::panicked(panic)),
            Self::Abandoned => Some(error::abandoned_stream(task::name(path))),
        }
    }
}
