//! Which event loop and which context a Rust task belongs to.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    pin::Pin,
    ptr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pyo3::prelude::*;

use crate::{
    cancellation::{Cancellation, Cancelled},
    context, error,
    event_loop::EventLoop,
    future::PythonFuture,
    lifecycle,
    stream::PythonStream,
};

/// The Python event loop and the `contextvars` of a task.
///
/// A Rust future that was made into a coroutine has them by itself; [`scope`] gives them to another future.
/// They are cheap to clone, on any thread.
#[derive(Clone)]
pub struct TaskLocals(Arc<Inner>);

struct Inner {
    event_loop: Arc<EventLoop>,
    context: Py<PyAny>,
    cancellation: Cancellation,
}

thread_local! {
    static CURRENT: Current =
        const { Current { locals: RefCell::new(ManuallyDrop::new(None)), in_place: Cell::new(false) } };
}

/// The Rust task that a thread polls.
struct Current {
    /// Whoever puts locals in takes them out: a thread has none when it ends. What has no destructor is reached sooner.
    locals: RefCell<ManuallyDrop<Option<TaskLocals>>>,
    /// It is polled in place, on the thread of its event loop: it gets its locals when it asks for them.
    in_place: Cell<bool>,
}

impl Current {
    fn replace(&self, locals: Option<TaskLocals>) -> Option<TaskLocals> {
        ManuallyDrop::into_inner(self.locals.replace(ManuallyDrop::new(locals)))
    }
}

impl TaskLocals {
    /// The locals of the Rust task that calls, if it has any, else those of the running event loop: the loop and a copy
    /// of the current context.
    ///
    /// Those of the task hold also in Python code that its future calls, even if that runs another event loop; use
    /// [`new`](Self::new) for the locals of that loop. In a forked child, whose parent has the task, they do not.
    ///
    /// # Errors
    ///
    /// `RuntimeError` when there are neither.
    #[doc(alias = "get_current_locals", alias = "with_running_loop")]
    pub fn current(py: Python<'_>) -> PyResult<Self> {
        Self::of_task_or(|| Self::running(py))?.ok_or_else(error::no_event_loop)
    }

    /// Locals of an event loop that need not be running, or runs in another thread, with a copy of the current context.
    ///
    /// # Errors
    ///
    /// `RuntimeError` when the loop is closed, and what the loop raises when it is asked to watch a descriptor.
    /// Unless it runs in this thread, that is asked by `call_soon_threadsafe`: what is raised then goes to its
    /// exception handler, and whoever waits for the loop is told that it is closed.
    pub fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let context = context::copy_current(event_loop.py())?;
        Ok(Self::with(EventLoop::of(event_loop)?, context))
    }

    /// The same event loop and the same task, with another `contextvars.Context`.
    #[must_use]
    pub fn with_context(&self, context: Bound<'_, PyAny>) -> Self {
        let Inner { event_loop, cancellation, .. } = &*self.0;
        let (event_loop, cancellation) = (Arc::clone(event_loop), cancellation.shared());
        Self(Arc::new(Inner { event_loop, context: context.unbind(), cancellation }))
    }

    /// The Python event loop.
    ///
    /// # Errors
    ///
    /// `RuntimeError` when the loop is gone: garbage, that is. One that is closed is given.
    #[doc(alias = "get_current_loop", alias = "get_running_loop")]
    pub fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.event_loop.object(py)
    }

    /// The `contextvars.Context`.
    #[must_use]
    pub fn context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.context.bind(py).clone()
    }

    /// [`into_future`](crate::into_future) with these locals instead of the current ones.
    ///
    /// # Errors
    ///
    /// `TypeError` when the object is not awaitable.
    #[doc(alias = "into_future_with_locals")]
    pub fn into_future(&self, awaitable: Bound<'_, PyAny>) -> PyResult<PythonFuture> {
        PythonFuture::new(self.clone(), awaitable)
    }

    /// [`into_future_with`](crate::into_future_with) with these locals instead of the current ones.
    pub fn into_future_with<F>(&self, make: F) -> PythonFuture
    where
        F: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    {
        PythonFuture::made_by(self.clone(), make)
    }

    /// [`into_stream`](crate::into_stream) with these locals instead of the current ones.
    ///
    /// # Errors
    ///
    /// `TypeError` when the object is not an asynchronous iterable.
    #[doc(alias = "into_stream_with_locals_v1", alias = "into_stream_with_locals_v2")]
    pub fn into_stream(&self, async_iterable: Bound<'_, PyAny>) -> PyResult<PythonStream> {
        PythonStream::new(self.clone(), async_iterable)
    }

    /// [`cancelled`](crate::cancelled) for the task of these locals.
    pub fn cancelled(&self, grace: Duration) -> Cancelled {
        Cancelled::new(self.clone(), grace)
    }

    /// Attaches to Python and calls `f` in a copy of the context: `contextvars` are seen, changes end with the call.
    ///
    /// When the interpreter is ending it does not return, but on the main thread, which Python does not end.
    ///
    /// # Errors
    ///
    /// What `f` returns as `Err`.
    pub fn attach<T>(&self, f: impl FnOnce(Python<'_>) -> PyResult<T>) -> PyResult<T> {
        let _pass = lifecycle::enter_to_attach();
        Python::attach(|py| self.within(py, f))
    }

    fn within<'py, T>(&self, py: Python<'py>, f: impl FnOnce(Python<'py>) -> PyResult<T>) -> PyResult<T> {
        context::within(&self.copy_context(py)?, || f(py))?
    }

    /// A copy of the context. The context itself is entered by nobody, so that its users do not exclude each other.
    pub(crate) fn copy_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        context::copy(self.0.context.bind(py))
    }

    /// The locals of the running event loop, if one runs in this thread.
    pub(crate) fn running(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(event_loop) = EventLoop::running(py)? else { return Ok(None) };
        Ok(Some(Self::with(event_loop, context::copy_current(py)?)))
    }

    pub(crate) fn with(event_loop: Arc<EventLoop>, context: Bound<'_, PyAny>) -> Self {
        let cancellation = Cancellation::default();
        Self(Arc::new(Inner { event_loop, context: context.unbind(), cancellation }))
    }

    pub(crate) fn handle(&self) -> &Arc<EventLoop> {
        &self.0.event_loop
    }

    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.0.cancellation
    }

    /// The locals of the Rust task that calls, or of the loop that `running` finds.
    fn of_task_or(running: impl FnOnce() -> PyResult<Option<Self>>) -> PyResult<Option<Self>> {
        match Self::of_task()? {
            Some(locals) if !locals.handle().is_left_behind() => Ok(Some(locals)),
            // A forked child may have none of its own: then it is told what these are.
            none_here => Ok(running()?.or(none_here)),
        }
    }

    /// The locals of the Rust task that calls, if it has any.
    pub(crate) fn of_task() -> PyResult<Option<Self>> {
        let (known, in_place) =
            CURRENT.with(|current| (Option::clone(&current.locals.borrow()), current.in_place.get()));
        if known.is_some() || !in_place {
            return Ok(known);
        }
        // A poll in place is made attached, so that this waits for nothing.
        let locals = Python::attach(Self::running)?;
        drop(CURRENT.with(|current| current.replace(locals.clone())));
        Ok(locals)
    }
}

impl fmt::Debug for TaskLocals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocals").field("event_loop", &self.0.event_loop).finish_non_exhaustive()
    }
}

/// The locals that a task spawned here should have: see [`RuntimeExt::spawn_inheriting`](crate::RuntimeExt).
pub(crate) fn inherited() -> PyResult<Option<TaskLocals>> {
    TaskLocals::of_task_or(|| if lifecycle::is_attached() { Python::attach(TaskLocals::running) } else { Ok(None) })
}

/// Gives a future task locals, wherever it is polled and dropped.
///
/// [`into_future`](crate::into_future) in it finds the event loop, on whichever thread the runtime polls it.
/// Scopes nest; the locals that were there before are back in place whenever the inner future is neither polled nor
/// dropped.
///
/// ```
/// # use pyo3::prelude::*;
/// # use pyo3_await::TaskLocals;
/// fn in_background(py: Python<'_>, spawn: impl Fn(pyo3_await::Scope<std::future::Ready<()>>)) -> PyResult<()> {
///     let locals = TaskLocals::current(py)?;
///     spawn(pyo3_await::scope(locals, std::future::ready(())));
///     Ok(())
/// }
/// ```
#[doc(alias = "scope_local")]
pub fn scope<F: Future>(locals: TaskLocals, future: F) -> Scope<F> {
    Scope { locals, future: Some(future) }
}

pin_project_lite::pin_project! {
    /// The future that [`scope`] returns.
    #[derive(Debug)]
    #[must_use = "a future does nothing until it is polled"]
    pub struct Scope<F> {
        locals: TaskLocals,
        // `None` when it has been dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _lent = Lent::new(this.locals);
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _lent = Lent::new(this.locals);
        this.future.as_pin_mut().expect("it is dropped with the scope").poll(cx)
    }
}

/// Attaches to Python and calls `f` in a copy of the current task's context.
///
/// A Rust future runs on threads that know nothing of Python's `contextvars`: `Python::attach` alone sees none of them.
/// With this they are as they were when the future was awaited; changes end with the call.
///
/// Like `Python::attach` it blocks the thread until the interpreter is free.
///
/// # Errors
///
/// What `f` returns as `Err`, and `RuntimeError` where there are no [`TaskLocals`].
///
/// When the interpreter is ending it does not return, since no thread may attach then but the main one.
pub fn attach<T>(f: impl FnOnce(Python<'_>) -> PyResult<T>) -> PyResult<T> {
    match TaskLocals::of_task()? {
        Some(locals) => locals.attach(f),
        None => Python::attach(|py| {
            let _pass = lifecycle::shelter(py);
            TaskLocals::current(py)?.within(py, f)
        }),
    }
}

/// What was in place before a poll, and is so again after it.
struct Outer {
    locals: Option<TaskLocals>,
    in_place: bool,
}

impl Outer {
    /// Puts something else in place.
    fn replaced_by(locals: Option<TaskLocals>, in_place: bool) -> Self {
        CURRENT.with(|current| Self { locals: current.replace(locals), in_place: current.in_place.replace(in_place) })
    }

    /// Puts it back, and gives what was in place meanwhile.
    fn restore(&mut self) -> Option<TaskLocals> {
        CURRENT.with(|current| {
            current.in_place.set(self.in_place);
            current.replace(self.locals.take())
        })
    }
}

/// Task locals that are in place for the time of a poll, a panicking one included. No reference is counted.
pub(crate) struct Lent<'a> {
    outer: Outer,
    lent: PhantomData<&'a TaskLocals>,
}

impl<'a> Lent<'a> {
    pub(crate) fn new(locals: &'a TaskLocals) -> Self {
        // SAFETY: the copy is in place for less than `'a`, and is never dropped: who takes it out, below, forgets it,
        // and others clone it.
        let copy = unsafe { ptr::read(locals) };
        Self { outer: Outer::replaced_by(Some(copy), false), lent: PhantomData }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        mem::forget(self.outer.restore());
    }
}

/// The same for a poll on the thread of the event loop: locals are made on demand, and are in `place` then.
pub(crate) struct OnDemand<'a> {
    place: &'a mut Option<TaskLocals>,
    outer: Outer,
}

impl<'a> OnDemand<'a> {
    pub(crate) fn new(place: &'a mut Option<TaskLocals>) -> Self {
        Self { outer: Outer::replaced_by(place.take(), true), place }
    }
}

impl Drop for OnDemand<'_> {
    fn drop(&mut self) {
        *self.place = self.outer.restore();
    }
}
