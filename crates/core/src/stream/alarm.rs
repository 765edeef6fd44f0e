//! What wakes a Python task that waits for something in Rust.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Wake,
    time::Duration,
};

use pyo3::prelude::*;

use crate::{
    asyncio_future::{AsyncioFuture, Settlement},
    class::Object,
    error,
    event_loop::{Delivery, Envelope, EventLoop, InFlight, Letter},
    path::Path,
    task::Cancel,
};

/// A Python task that waits for an alarm. To drop it is to go away.
pub(super) struct Waiting {
    future: Py<Object<AsyncioFuture>>,
    alarm: Arc<Envelope<Alarm>>,
}

impl Waiting {
    /// Only the thread of the alarm's event loop may call this.
    pub(super) fn new(py: Python<'_>, alarm: Arc<Envelope<Alarm>>) -> PyResult<Self> {
        let Alarm { event_loop, waiter, .. } = &alarm.letter;
        let future = AsyncioFuture::new(event_loop.object(py)?, Arc::clone(&alarm) as Arc<dyn Cancel>)?.unbind();
        // Relaxed: only the loop's thread looks, when an alarm is delivered.
        waiter.store(event_loop.insert(py, InFlight::Waiter(future.clone_ref(py))), Ordering::Relaxed);
        if alarm.letter.rung.swap(false, Ordering::Relaxed) {
            Arc::clone(&alarm).wake();
        }
        Ok(Self { future, alarm })
    }

    /// What the task awaits. Its result is nothing: it says "look again".
    pub(super) fn future(&self) -> &Py<Object<AsyncioFuture>> {
        &self.future
    }

    pub(super) fn alarm(&self) -> &Arc<Envelope<Alarm>> {
        &self.alarm
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.alarm.letter.disarm();
    }
}

/// What waits behind an awaitable, perhaps before others who wait for the same.
///
/// A task that goes on no more may live on, with its awaitable, until it is collected: when its event loop was closed,
/// say. What it waited for must go to the others before that.
pub(super) trait Abandon: Send + Sync {
    /// The wait has come to nothing. Called on the event loop's thread, or that which closes the loop.
    fn abandon(&self);
}

/// What a waker has to do to resume a Python task.
pub(crate) struct Alarm {
    event_loop: Arc<EventLoop>,
    /// The key of the future that the task waits for; the greatest number when there is none.
    waiter: AtomicU32,
    /// It was delivered when there was none: by a loop that is run re-entrantly, while the operation is polled.
    rung: AtomicBool,
    path: Path,
    waits: Option<Weak<dyn Abandon>>,
}

impl Alarm {
    const NOBODY: u32 = u32::MAX;

    /// An alarm for the running event loop, which tells `waits` when the task cannot go on. `path` and `call` are what
    /// the waiting is about.
    pub(super) fn new(
        py: Python<'_>,
        path: Path,
        call: &str,
        waits: Option<Weak<dyn Abandon>>,
    ) -> PyResult<Arc<Envelope<Self>>> {
        let Some(event_loop) = EventLoop::running(py)? else {
            let what = format!("{call} of the Rust stream '{}'", path.name());
            return Err(error::no_running_event_loop(&what));
        };
        let (waiter, rung) = (AtomicU32::new(Self::NOBODY), AtomicBool::new(false));
        Ok(Envelope::new(Self { event_loop, waiter, rung, path, waits }))
    }

    /// What has rung so far is of no interest any more: the operation is about to be polled.
    pub(super) fn reset(&self) {
        self.rung.store(false, Ordering::Relaxed);
    }

    /// Lets go of the future: nobody waits for it any more.
    fn disarm(&self) {
        let key = self.waiter.swap(Self::NOBODY, Ordering::Relaxed);
        if key != Self::NOBODY && !self.event_loop.is_left_behind() {
            // The future is a Python object, which is dropped attached.
            Python::try_attach(|py| drop(self.event_loop.remove(py, key)));
        }
    }

    /// The task goes on no more, or only to hear that the wait is over.
    pub(crate) fn abandon(&self) {
        self.disarm();
        if let Some(waits) = self.waits.as_ref().and_then(Weak::upgrade) {
            waits.abandon();
        }
    }
}

impl Wake for Envelope<Alarm> {
    fn wake(self: Arc<Self>) {
        let event_loop = Arc::clone(&self.letter.event_loop);
        event_loop.post(self);
    }
}

impl Letter for Alarm {
    fn deliver(envelope: Arc<Envelope<Self>>, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        match envelope.letter.waiter.swap(Self::NOBODY, Ordering::Relaxed) {
            // The task was cancelled meanwhile, or has been woken before, or is about to wait.
            Self::NOBODY => {
                envelope.letter.rung.store(true, Ordering::Relaxed);
                Ok(())
            }
            key => {
                if envelope.letter.waits.is_some() {
                    // Should the loop be closed before the task goes on, it finds the alarm in the future's place.
                    let woken = InFlight::Woken(Arc::clone(&envelope));
                    envelope.letter.waiter.store(delivery.event_loop.insert(delivery.py, woken), Ordering::Relaxed);
                }
                AsyncioFuture::deliver(key, Settlement::Done(delivery.py.None()), delivery)
            }
        }
    }

    /// The task will not run again, nor will anything else on this loop, which has told the alarm of its end.
    fn refuse(_: Arc<Envelope<Self>>, _: Option<Python<'_>>) {}
}

impl Cancel for Envelope<Alarm> {
    fn tell(&self) -> Option<Duration> {
        None
    }

    fn cancel(self: Arc<Self>) {
        self.letter.abandon();
    }

    /// It is the awaitable that ends the operation, when the task throws `CancelledError` into it.
    fn let_go(&self) -> bool {
        self.letter.abandon();
        true
    }

    fn path(&self) -> Path {
        self.letter.path
    }
}
