//! A Rust future that stays on the event loop's thread.
//!
//! It need not be `Send`: the loop's thread polls it and drops it, and nobody else.
//! Waking it is sending it to its loop's mailbox, so that each poll is a delivery.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use pyo3::prelude::*;

use crate::{
    Runtime, TaskLocals,
    asyncio_future::{AsyncioFuture, Settlement},
    context, error,
    event_loop::{Delivery, Envelope, EventLoop, Letter},
    panic,
    path::Path,
    runtime::refuse_left_behind,
    sync::{OnThread, Untouchable},
    task::{Cancel, End, Polled, Start, here},
};

/// The cell shared by a local future, its wakers and its Python waiter.
pub(crate) struct LocalTask<R: Runtime, F> {
    runtime: R,
    /// Set before the first poll, so that every waker finds it.
    event_loop: OnceLock<Arc<EventLoop>>,
    /// Set when the first poll is over.
    locals: OnceLock<TaskLocals>,
    /// The key of the Python waiter. Only the loop's thread uses it.
    waiter: AtomicU32,
    cancelled: AtomicBool,
    /// It was to be polled while it was being polled. Only the loop's thread uses it.
    again: AtomicBool,
    /// The task holds a reference to itself. Only the loop's thread uses it.
    holds_itself: AtomicBool,
    /// `None` when it has ended.
    future: OnThread<Option<F>>,
}

/// A task for a future that is polled on this thread.
pub(crate) fn new<R, F, T>(runtime: R, future: F) -> Arc<dyn Start>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    Envelope::new(LocalTask {
        runtime,
        event_loop: OnceLock::new(),
        locals: OnceLock::new(),
        waiter: AtomicU32::new(u32::MAX),
        cancelled: AtomicBool::new(false),
        again: AtomicBool::new(false),
        holds_itself: AtomicBool::new(false),
        future: OnThread::new(Some(future)),
    })
}

impl<R, F, T> Envelope<LocalTask<R, F>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    /// Polls the future, or drops it if it was cancelled; gives its end, once.
    fn step(self: &Arc<Self>, py: Python<'_>, locals: &mut Option<TaskLocals>) -> PyResult<Option<Settlement>> {
        let task = &self.letter;
        let end = match task.future.with(|place| self.poll(place, locals)) {
            Ok(end) => end,
            Err(Untouchable::Elsewhere) => {
                return Err(error::wrong_thread("future", self.path().name(), "into_coroutine"));
            }
            Err(Untouchable::Touched) => {
                // Python code that the future calls may run the loop re-entrantly, and that deliver this task again.
                task.again.store(true, Ordering::Relaxed);
                return Ok(None);
            }
        };
        if task.again.swap(false, Ordering::Relaxed) {
            self.wake_by_ref();
        }
        if end.is_some() {
            self.let_go_of_itself();
        }
        // Who has no locals yet has not been cancelled.
        let answering = |end: End<T>| match task.locals.get() {
            Some(locals) => end.answering(locals),
            None => end,
        };
        Ok(end.map(|end| answering(end).settle(py, self.path())))
    }

    /// Keeps the memory of a future that was polled until it has been dropped, as its pin promises: where it is leaked,
    /// since the last reference goes on another thread, so is that.
    fn hold_itself(self: &Arc<Self>) {
        self.letter.holds_itself.store(true, Ordering::Relaxed);
        mem::forget(Arc::clone(self));
    }

    fn let_go_of_itself(self: &Arc<Self>) {
        if self.letter.holds_itself.swap(false, Ordering::Relaxed) {
            // SAFETY: `hold_itself` has given this reference away, and it is taken back once.
            drop(unsafe { Arc::from_raw(Arc::as_ptr(self)) });
        }
    }

    /// The part of [`step`](Self::step) that is the user's code.
    fn poll(self: &Arc<Self>, place: &mut Option<F>, locals: &mut Option<TaskLocals>) -> Option<End<T>> {
        let task = &self.letter;
        if place.is_none() {
            return None;
        }
        let end = if task.cancelled.load(Ordering::Relaxed) {
            End::Cancelled
        } else {
            let waker = Waker::from(Arc::clone(self));
            let mut end = None;
            let polled = here(&task.runtime, locals, || {
                let future = place.as_mut().expect("it has not ended");
                // SAFETY: the future lives in the task's allocation, and is dropped there without having been moved; if
                // it has to wait, the task holds itself until then.
                let future = unsafe { Pin::new_unchecked(future) };
                if let Poll::Ready(result) = future.poll(&mut Context::from_waker(&waker)) {
                    end = Some(End::from(result));
                    *place = None;
                }
            });
            match polled {
                Ok(()) => return end,
                Err(panic) => End::from(panic),
            }
        };
        Some(end.after(here(&task.runtime, locals, || *place = None)))
    }
}

impl<R, F, T> Start for Envelope<LocalTask<R, F>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    fn poll_in_place(self: Arc<Self>, py: Python<'_>, locals: &mut Option<TaskLocals>) -> Polled {
        let stepped = EventLoop::running(py).and_then(|event_loop| {
            let Some(event_loop) = event_loop else {
                return Err(error::no_running_event_loop(&format!("the Rust future '{}'", self.path().name())));
            };
            refuse_left_behind(&self.letter.runtime)?;
            let _ = self.letter.event_loop.set(event_loop);
            self.step(py, locals)
        });
        match stepped {
            Ok(Some(settlement)) => Polled::Ended(settlement),
            Ok(None) => {
                self.hold_itself();
                Polled::Waits(self)
            }
            Err(error) => Polled::Ended(Settlement::failed(error)),
        }
    }

    fn into_cancel(self: Arc<Self>) -> Arc<dyn Cancel> {
        self
    }

    fn start(self: Arc<Self>, waiter: u32, locals: TaskLocals) {
        self.letter.waiter.store(waiter, Ordering::Relaxed);
        let _ = self.letter.locals.set(locals);
    }
}

impl<R, F, T> Cancel for Envelope<LocalTask<R, F>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    fn tell(&self) -> Option<Duration> {
        self.letter.locals.get()?.cancellation().tell()
    }

    fn cancel(self: Arc<Self>) {
        // Relaxed: it carries nothing but itself, and the post that follows brings it.
        self.letter.cancelled.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn path(&self) -> Path {
        Path::of::<F>()
    }
}

impl<R, F, T> Wake for Envelope<LocalTask<R, F>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    fn wake(self: Arc<Self>) {
        // It is set before there is any waker.
        if let Some(event_loop) = self.letter.event_loop.get() {
            Arc::clone(event_loop).post(self);
        }
    }
}

impl<R, F, T> Letter for LocalTask<R, F>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    fn deliver(envelope: Arc<Envelope<Self>>, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        let Some(locals) = envelope.letter.locals.get() else {
            // It was woken in the first poll, which was its last, or is not over: then it runs the loop re-entrantly.
            if envelope.letter.future.is_touched() {
                envelope.letter.again.store(true, Ordering::Relaxed);
            }
            return Ok(());
        };
        // The first poll was made in the context of whoever awaits; each of the others has a copy of it.
        let context = locals.copy_context(delivery.py)?;
        let step = || envelope.step(delivery.py, &mut Some(locals.clone()));
        let settlement = match context::within(&context, step)? {
            Ok(None) => return Ok(()),
            Ok(Some(settlement)) => settlement,
            Err(error) => Settlement::FailedForGood(Box::new(error)),
        };
        AsyncioFuture::deliver(envelope.letter.waiter.load(Ordering::Relaxed), settlement, delivery)
    }

    fn refuse(envelope: Arc<Envelope<Self>>, _: Option<Python<'_>>) {
        if envelope.letter.event_loop.get().is_some_and(|event_loop| event_loop.is_left_behind()) {
            // The future is the parent's, in a forked child.
            return mem::forget(envelope);
        }
        // The loop is being closed, and others are refused after this one. A panic has nobody to go to.
        let _ = panic::catch(|| envelope.letter.drop_future());
        if envelope.letter.future.with(|place| place.is_none()) == Ok(true) {
            envelope.let_go_of_itself();
        }
    }
}

impl<R: Runtime, F> LocalTask<R, F> {
    /// Drops the future, if this is its thread and nothing up the stack polls it. Elsewhere it is leaked.
    fn drop_future(&self) {
        // The drop may wake the task, which is refused again, and comes here in vain.
        let _ = self.future.with(|place| self.runtime.enter(|| *place = None));
    }
}

impl<R: Runtime, F> Drop for LocalTask<R, F> {
    fn drop(&mut self) {
        self.drop_future();
    }
}
