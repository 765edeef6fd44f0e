//! The cell shared by one Rust future and its Python waiter.
//!
//! A [`Task`] goes through these states, and nobody but the named owner touches its [`Stage`]:
//!
//! | state | stage | owner of the stage | ends by |
//! |---|---|---|---|
//! | new | `Future` | whoever holds the only reference | [`Start::start`], or being dropped |
//! | running | `Future` | the [`Driver`], on the runtime | the future's end, a cancellation, or the runtime's drop |
//! | ended | `Ended` | the letter in the event loop's mailbox | delivery on the loop's thread |
//! | delivered | `Delivered` | nobody | |
//!
//! Cancellation is a flag and a wake: the driver sees the flag at its next poll, and drops the future on the runtime.

use std::{
    any::TypeId,
    cell::UnsafeCell,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use pyo3::{IntoPyObjectExt, prelude::*};

use crate::{
    Runtime, TaskLocals,
    asyncio_future::{AsyncioFuture, Settlement},
    class::Object,
    context, error,
    event_loop::{Delivery, Envelope, EventLoop, InFlight, Letter},
    lifecycle,
    locals::{Lent, OnDemand},
    panic::{self, Panic},
    path::Path,
    runtime::refuse_left_behind,
};

/// A Rust future, from its conversion to the delivery of its output.
pub(crate) struct Task<R: Runtime, F, T> {
    runtime: R,
    first_poll: FirstPoll,
    /// Set once by anybody, before `waker` is woken; read by the driver, after it has registered with `waker`.
    cancelled: AtomicBool,
    /// The runtime's waker, registered by the driver when the future waits.
    waker: AtomicWaker,
    /// The key of the Python waiter among what the event loop has in flight. Written before the driver is made.
    waiter: AtomicU32,
    /// Set before the driver is made, and dropped with the task.
    locals: OnceLock<TaskLocals>,
    /// See the table of the module.
    stage: UnsafeCell<Stage<F, T>>,
}

/// Where a future is polled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstPoll {
    OnRuntime,
    /// On the thread of the event loop, when it is awaited; it is spawned only if it has to wait.
    InPlace,
}

enum Stage<F, T> {
    Future(F),
    Ended(End<T>),
    Delivered,
}

/// How a future ended. What is rare is in a box, so that it takes no room in the memory of every future.
pub(crate) enum End<T> {
    Returned(T),
    Failed(Box<PyErr>),
    Panicked(Panic),
    /// The future was dropped because Python asked for it.
    Cancelled,
    /// The same as what gives way to a cancellation, and this does not.
    FailedForGood(Box<PyErr>),
    PanickedForGood(Panic),
    /// The future was dropped by its runtime.
    Abandoned,
}

// SAFETY: the stage is only touched by its one owner at a time, and ownership is handed on by `spawn` and by the
// mailbox, which both synchronise. `F`, `T` and `R` may be moved to another thread.
unsafe impl<R: Runtime, F: Send, T: Send> Sync for Task<R, F, T> {}

impl<R, F, T> Drop for Task<R, F, T>
where
    R: Runtime,
{
    fn drop(&mut self) {
        let stage = self.stage.get_mut();
        if !matches!(stage, Stage::Delivered) {
            // It was never started, or nobody took what it gave: Python drops that, on a thread of its own. tokio's
            // types, for one, want their runtime.
            self.runtime.enter(|| *stage = Stage::Delivered);
        }
    }
}

/// What the Python side knows of a task before it is started.
pub(crate) trait Start: Cancel {
    /// Polls the future once where it is, if that is its way.
    ///
    /// `locals` are those that the future has asked for, if it has.
    /// Called at most once, by the owner of the only reference, on the event loop's thread and before `start`.
    fn poll_in_place(self: Arc<Self>, py: Python<'_>, locals: &mut Option<TaskLocals>) -> Polled;

    /// The task, as what can be cancelled.
    fn into_cancel(self: Arc<Self>) -> Arc<dyn Cancel>;

    /// Goes on with a future that has not ended: for the most part, spawns it on its runtime.
    ///
    /// Called at most once.
    fn start(self: Arc<Self>, waiter: u32, locals: TaskLocals);
}

/// What has come of a poll in place.
pub(crate) enum Polled {
    Ended(Settlement),
    /// The task is to be started.
    Waits(Arc<dyn Start>),
}

/// What the Python side knows of a running task.
pub(crate) trait Cancel: Send + Sync {
    /// Tells the future that it is cancelled, if it has asked for that; gives the time that it wants.
    fn tell(&self) -> Option<Duration>;

    /// Lets go of the waiter, if nothing has to end before it: then it is cancelled at once, and not by `cancel`.
    fn let_go(&self) -> bool {
        false
    }

    /// Has the future dropped, on its runtime, at its next poll. From any thread; without effect when it has ended.
    fn cancel(self: Arc<Self>);

    /// The path of the future's type.
    fn path(&self) -> Path;
}

/// A task that has not been started.
pub(crate) fn new<R, F, T>(runtime: R, future: F, first_poll: FirstPoll) -> Arc<dyn Start>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Envelope::new(Task {
        runtime,
        first_poll,
        cancelled: AtomicBool::new(false),
        waker: AtomicWaker::new(),
        waiter: AtomicU32::new(u32::MAX),
        locals: OnceLock::new(),
        stage: UnsafeCell::new(Stage::Future(future)),
    })
}

/// Starts a task for the event loop that runs in this thread, and gives its waiter.
///
/// It has the locals of the loop and the current context, unless it has some already.
pub(crate) fn start(
    py: Python<'_>,
    task: Arc<dyn Start>,
    locals: Option<TaskLocals>,
) -> PyResult<Bound<'_, Object<AsyncioFuture>>> {
    let _pass = lifecycle::admit(py)?;
    let Some(locals) = locals.map_or_else(|| TaskLocals::running(py), |locals| Ok(Some(locals)))? else {
        return Err(error::no_running_event_loop(&format!("the Rust future '{}'", task.path().name())));
    };
    let event_loop = Arc::clone(locals.handle());
    let future = AsyncioFuture::new(event_loop.object(py)?, Arc::clone(&task).into_cancel())?;
    let waiter = event_loop.insert(py, InFlight::Waiter(future.clone().unbind()));
    task.start(waiter, locals);
    Ok(future)
}

impl<R, F, T> Start for Envelope<Task<R, F, T>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn poll_in_place(self: Arc<Self>, py: Python<'_>, locals: &mut Option<TaskLocals>) -> Polled {
        let task = &self.letter;
        if task.first_poll == FirstPoll::OnRuntime {
            return Polled::Waits(self);
        }
        if let Err(error) = refuse_left_behind(&task.runtime) {
            return Polled::Ended(Settlement::failed(error));
        }
        // SAFETY: the task has not been started, and the caller has the only reference.
        let stage = unsafe { &mut *task.stage.get() };
        // It is put here from inside, not handed from one to the next until it is outside.
        let mut settlement = None;
        let polled = here(&task.runtime, locals, || {
            let Stage::Future(future) = stage else { unreachable!("it has not been polled") };
            // SAFETY: the future lives in the task's allocation, and is dropped there without having been moved.
            let future = unsafe { Pin::new_unchecked(future) };
            // Whoever wakes it has nobody to wake yet: the driver polls it again, with a waker of the runtime's.
            if let Poll::Ready(result) = future.poll(&mut Context::from_waker(Waker::noop())) {
                *stage = Stage::Delivered;
                settlement = Some(End::from(result).convert(py, self.path()));
            }
        });
        if let Err(panic) = polled {
            let dropped = here(&task.runtime, locals, || *stage = Stage::Delivered);
            settlement = Some(End::<T>::from(panic).after(dropped).settle(py, self.path()));
        }
        match settlement {
            Some(settlement) => Polled::Ended(settlement),
            None => Polled::Waits(self),
        }
    }

    fn into_cancel(self: Arc<Self>) -> Arc<dyn Cancel> {
        self
    }

    fn start(self: Arc<Self>, waiter: u32, locals: TaskLocals) {
        // Relaxed: `spawn` hands the driver, and with it this write, to its thread.
        self.letter.waiter.store(waiter, Ordering::Relaxed);
        let _ = self.letter.locals.set(locals);
        let runtime = self.letter.runtime.clone();
        runtime.spawn(Driver { task: Some(self) });
    }
}

impl<R, F, T> Cancel for Envelope<Task<R, F, T>>
where
    R: Runtime,
    F: Send + 'static,
    T: Send + 'static,
{
    fn tell(&self) -> Option<Duration> {
        self.letter.locals.get()?.cancellation().tell()
    }

    fn cancel(self: Arc<Self>) {
        // Release pairs with the acquire in `Task::poll`, though the flag carries nothing but itself.
        self.letter.cancelled.store(true, Ordering::Release);
        self.letter.waker.wake();
    }

    fn path(&self) -> Path {
        Path::of::<F>()
    }
}

/// What the runtime polls: the only owner of a running task's stage.
struct Driver<R, F, T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    /// `None` when the task has ended.
    task: Option<Arc<Envelope<Task<R, F, T>>>>,
}

impl<R, F, T> Task<R, F, T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    /// Polls the future, for the driver, which gives its end.
    ///
    /// # Safety
    ///
    /// Called by the driver, which owns the stage.
    unsafe fn poll(&self, cx: &mut Context<'_>) -> Poll<End<T>> {
        if self.cancelled.load(Ordering::Acquire) {
            return Poll::Ready(End::Cancelled);
        }
        // SAFETY: the caller owns the stage.
        let Stage::Future(future) = (unsafe { &mut *self.stage.get() }) else { unreachable!("it has not ended") };
        // SAFETY: the future lives in the task's allocation, and is dropped there without having been moved.
        let future = unsafe { Pin::new_unchecked(future) };
        let polled = {
            let _lent = Lent::new(self.locals.get().expect("they were set before the driver was made"));
            panic::catch(|| future.poll(cx))
        };
        match polled {
            Ok(Poll::Ready(result)) => return Poll::Ready(End::from(result)),
            Err(panic) => return Poll::Ready(End::from(panic)),
            Ok(Poll::Pending) => {}
        }
        // First the waker, then the flag: a cancellation that comes after the look at the flag finds the waker.
        self.waker.register(cx.waker());
        if self.cancelled.load(Ordering::Acquire) { Poll::Ready(End::Cancelled) } else { Poll::Pending }
    }
}

impl<R, F, T> Driver<R, F, T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    /// Drops the future, if it is still there, and sends its end to the event loop.
    fn end(&mut self, end: End<T>) {
        let Some(task) = self.task.take() else { return };
        // SAFETY: the driver owns the stage until it posts the task, and it gives up the task here.
        let stage = unsafe { &mut *task.letter.stage.get() };
        let locals = task.letter.locals.get().expect("they were set before the driver was made");
        let end = end.answering(locals);
        let dropped = {
            let _lent = Lent::new(locals);
            panic::catch(|| *stage = Stage::Delivered)
        };
        *stage = Stage::Ended(end.after(dropped));
        // After the post the task may be gone, and the locals with it.
        let event_loop: Arc<EventLoop> = Arc::clone(locals.handle());
        event_loop.post(task);
    }
}

impl<R, F, T> Future for Driver<R, F, T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &self.task else { return Poll::Ready(()) };
        // When the interpreter is ending nobody waits for the task any more: it stays as it is.
        let Some(_pass) = lifecycle::enter() else { return Poll::Pending };
        // SAFETY: this is the driver.
        match unsafe { task.letter.poll(cx) } {
            Poll::Pending => Poll::Pending,
            Poll::Ready(end) => {
                self.end(end);
                Poll::Ready(())
            }
        }
    }
}

impl<R, F, T> Drop for Driver<R, F, T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn drop(&mut self) {
        match lifecycle::enter() {
            Some(_pass) => self.end(End::Abandoned),
            // The future may have Python objects, or code that attaches when it is dropped: it is leaked.
            None => mem::forget(self.task.take()),
        }
    }
}

impl<R, F, T> Letter for Task<R, F, T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn deliver(envelope: Arc<Envelope<Self>>, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        let task = &envelope.letter;
        // SAFETY: the driver has posted the task and given it up; a task is posted once, and delivered once.
        let Stage::Ended(end) = mem::replace(unsafe { &mut *task.stage.get() }, Stage::Delivered) else {
            unreachable!("it was posted by its driver")
        };
        let (waiter, path) = (task.waiter.load(Ordering::Relaxed), envelope.path());
        // A copy: others may have entered it, or may not see what the conversion changes.
        let context = task.locals.get().expect("they were set before the driver was made").copy_context(delivery.py)?;
        // Whoever is resumed may find its memory free for the next.
        drop(envelope);
        let settled = context::within(&context, || end.settle(delivery.py, path));
        AsyncioFuture::deliver(waiter, settled.unwrap_or_else(Settlement::failed), delivery)
    }

    fn refuse(envelope: Arc<Envelope<Self>>, _: Option<Python<'_>>) {
        // The loop let go of the waiter when it was closed. The output is dropped here, which is the user's code: a
        // panic has nobody to go to.
        let _ = panic::catch(|| drop(envelope));
    }
}

impl<T> From<PyResult<T>> for End<T> {
    fn from(result: PyResult<T>) -> Self {
        match result {
            Ok(value) => Self::Returned(value),
            Err(error) => Self::Failed(Box::new(error)),
        }
    }
}

impl<T> From<Panic> for End<T> {
    fn from(panic: Panic) -> Self {
        Self::Panicked(panic)
    }
}

impl<T> End<T> {
    /// The same, once the future has been dropped, which is the user's code: a panic in it is how the task ends.
    pub(crate) fn after(self, dropped: Result<(), Panic>) -> Self {
        let Err(panic) = dropped else { return self };
        // An output that nobody gets: its drop is the user's code again.
        let _ = panic::catch(|| drop(self));
        Self::PanickedForGood(panic)
    }
}

impl<T> End<T> {
    /// The same of a future that may have heard that it is cancelled: then an error is its answer to that.
    pub(crate) fn answering(self, locals: &TaskLocals) -> Self {
        match self {
            Self::Failed(error) if locals.cancellation().is_heard() => Self::FailedForGood(error),
            Self::Panicked(panic) if locals.cancellation().is_heard() => Self::PanickedForGood(panic),
            end => end,
        }
    }
}

impl<T: for<'py> IntoPyObject<'py> + 'static> End<T> {
    /// What Python gets.
    pub(crate) fn settle(self, py: Python<'_>, path: Path) -> Settlement {
        match panic::catch(|| self.convert(py, path)) {
            Ok(settlement) => settlement,
            Err(panic) => Settlement::failed(error::panicked(panic)),
        }
    }

    /// The same; the conversion of an output, which is the user's code, may panic.
    fn convert(self, py: Python<'_>, path: Path) -> Settlement {
        match self {
            Self::Returned(value) => {
                let failed = |error| Settlement::failed(error::not_stop_iteration(py, error));
                into_python(py, value).map_or_else(failed, Settlement::Done)
            }
            Self::Failed(error) => Settlement::failed(error::not_stop_iteration(py, *error)),
            Self::FailedForGood(error) => Settlement::FailedForGood(Box::new(error::not_stop_iteration(py, *error))),
            Self::Panicked(panic) => Settlement::failed(error::panicked(panic)),
            Self::Cancelled => Settlement::Cancelled,
            Self::PanickedForGood(panic) => Settlement::FailedForGood(Box::new(error::panicked(panic))),
            Self::Abandoned => Settlement::failed(error::abandoned("future", path.name())),
        }
    }
}

/// Polls a future, and drops one that has ended, on the thread of the event loop, where it finds the loop by itself.
pub(crate) fn here(runtime: &impl Runtime, locals: &mut Option<TaskLocals>, poll: impl FnOnce()) -> Result<(), Panic> {
    let _on_demand = OnDemand::new(locals);
    panic::catch(|| runtime.enter(poll))
}

/// Converts a value, which may panic: the conversion is the user's code.
///
/// Nothing is `None`, as where a function returns to Python; PyO3's conversion would make an empty tuple of it.
pub(crate) fn into_python<T: for<'py> IntoPyObject<'py> + 'static>(py: Python<'_>, value: T) -> PyResult<Py<PyAny>> {
    if TypeId::of::<T>() == TypeId::of::<()>() { Ok(py.None()) } else { value.into_py_any(py) }
}
