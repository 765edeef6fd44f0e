//! How a Rust future learns that Python has cancelled it, and gets time to clean up.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use once_cell::race::OnceBox;
use pyo3::prelude::*;
use slab::Slab;

use crate::{TaskLocals, error, sync::Lock};

/// A future that ends when Python cancels the Rust future that calls this, or one of whose tasks calls this.
///
/// A cancelled future is dropped at once, and what it holds is released by `Drop`, which cannot wait.
/// A future that has to wait for its clean-up (a rollback, a farewell to a server) takes a `Cancelled`: from then on
/// cancelling it ends the `Cancelled` instead, and the future has `grace` to come to its own end.
/// Python's awaiter waits for that end; then `CancelledError` is raised, or what the future returns as `Err`.
/// After `grace`, or when Python cancels once more, the future is dropped.
///
/// Dropping a `Cancelled` that has not ended takes the request back.
///
/// ```
/// # use std::{pin::pin, time::Duration};
/// # use futures::future::{Either, select};
/// # use pyo3::prelude::*;
/// # struct Transaction;
/// # impl Transaction { async fn work(&mut self) -> PyResult<()> { Ok(()) } async fn roll_back(self) {} }
/// async fn transfer(mut transaction: Transaction) -> PyResult<()> {
///     let cancelled = pyo3_await::cancelled(Duration::from_secs(5))?;
///     if let Either::Left((result, _)) = select(pin!(transaction.work()), pin!(cancelled)).await {
///         return result;
///     }
///     transaction.roll_back().await;
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// `RuntimeError` outside a Rust task that has [`TaskLocals`].
pub fn cancelled(grace: Duration) -> PyResult<Cancelled> {
    Ok(TaskLocals::of_task()?.ok_or_else(error::not_in_a_task)?.cancelled(grace))
}

/// The future that [`cancelled`] returns. It is `Send`.
#[must_use = "a future does nothing until it is polled"]
pub struct Cancelled {
    locals: TaskLocals,
    key: usize,
}

/// What the task and its `Cancelled`s share; nothing until somebody asks.
#[derive(Default)]
pub(crate) struct Cancellation(OnceBox<Arc<Lock<State>>>);

#[derive(Default)]
struct State {
    told: bool,
    /// Somebody who has asked knows.
    heard: bool,
    waiters: Slab<Waiter>,
}

struct Waiter {
    grace: Duration,
    waker: Option<Waker>,
}

impl Cancellation {
    /// The same, in another place.
    pub(crate) fn shared(&self) -> Self {
        let shared = OnceBox::new();
        let _ = shared.set(Box::new(Arc::clone(self.get())));
        Self(shared)
    }

    /// Tells those who asked that Python has cancelled the task, and gives the longest time that they want.
    ///
    /// `None` when nobody asked, or everybody has been told before.
    pub(crate) fn tell(&self) -> Option<Duration> {
        let (grace, wakers) = {
            let mut state = self.0.get()?.lock();
            let grace = state.waiters.iter().map(|(_, waiter)| waiter.grace).max()?;
            if mem::replace(&mut state.told, true) {
                return None;
            }
            let wakers: Vec<_> = state.waiters.iter_mut().filter_map(|(_, waiter)| waiter.waker.take()).collect();
            (grace, wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        Some(grace)
    }

    /// Whether what was told has been heard.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.get().is_some_and(|state| state.lock().heard)
    }

    fn get(&self) -> &Arc<Lock<State>> {
        self.0.get_or_init(Box::default)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.get().lock()
    }
}

impl Cancelled {
    pub(crate) fn new(locals: TaskLocals, grace: Duration) -> Self {
        let key = locals.cancellation().state().waiters.insert(Waiter { grace, waker: None });
        Self { locals, key }
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let _old = {
            let mut state = self.locals.cancellation().state();
            if state.told {
                state.heard = true;
                return Poll::Ready(());
            }
            state.waiters[self.key].waker.replace(waker)
        };
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        let _waiter = self.locals.cancellation().state().waiters.remove(self.key);
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").finish_non_exhaustive()
    }
}
