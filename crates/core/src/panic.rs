//! Panics of the user's code, caught where they would leave Rust.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    mem,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use pyo3::prelude::*;

use crate::{error, lifecycle::Process};

/// A panic that was caught. In a box, so that it takes no room where there is none.
pub(crate) struct Panic(Box<Caught>);

struct Caught {
    message: String,
    /// Where it was; not known when somebody has replaced the panic hook.
    location: Option<String>,
}

impl Panic {
    #[cold]
    fn new(payload: Box<dyn Any + Send>, location: Option<String>) -> Self {
        let message = match payload.downcast::<String>() {
            Ok(message) => *message,
            Err(payload) => match payload.downcast::<&str>() {
                Ok(message) => (*message).to_owned(),
                Err(payload) => {
                    // Its drop is the user's code again, which may panic.
                    mem::forget(payload);
                    "a panic with a payload that is not a string".to_owned()
                }
            },
        };
        Self(Box::new(Caught { message, location }))
    }

    /// What the panic said, and where.
    pub(crate) fn message(self) -> String {
        let Caught { message, location } = *self.0;
        match location {
            Some(location) => format!("{message}, at {location}"),
            None => message,
        }
    }
}

thread_local! {
    /// How many panics there were on this thread.
    static PANICS: Cell<usize> = const { Cell::new(0) };
    /// Where the last of them was.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls the user's code, and catches its panic.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    let panics = PANICS.get();
    // Whoever is left in an odd state by a panic is dropped: a future that panicked is not polled again.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    result.map_err(|payload| {
        // A panic that is passed on, from a task that was joined, say, was elsewhere.
        let location = if PANICS.get() == panics { None } else { LOCATION.take() };
        Panic::new(payload, location)
    })
}

/// Calls the user's code where nobody can catch its panic, which is reported.
pub(crate) fn catch_or_report(py: Python<'_>, f: impl FnOnce()) {
    if let Err(panic) = catch(f) {
        error::panicked(panic).write_unraisable(py, None);
    }
}

/// The hook is there.
static LISTENS: AtomicBool = AtomicBool::new(false);

/// Somebody puts it there, or forks, so that a child never has half of it. To wait for this is to spin.
static AT_HOOK: AtomicBool = AtomicBool::new(false);

/// How long a fork waits: the standard library's own lock is had by threads that panic, whose hooks may wait for the
/// interpreter, which the thread that forks may have.
const FORK_BOUND: Duration = Duration::from_secs(1);

/// Puts a panic hook before the present one, once: only a hook is told where a panic is.
///
/// It waits for threads that panic, whose hooks may wait for Python: so it does that detached.
pub(crate) fn listen(py: Python<'_>) {
    // Acquire, as everywhere here, pairs with the release of who was at the hook before. A hook cannot be set by a
    // thread that panics; the next call will.
    if !LISTENS.load(Ordering::Acquire) && !thread::panicking() {
        set_hook(py);
    }
}

#[cold]
fn set_hook(py: Python<'_>) {
    static WATCHES_FORKS: AtomicBool = AtomicBool::new(false);

    py.detach(|| {
        // Two threads may register them, which does no harm; to wait for each other would, in a child.
        if !WATCHES_FORKS.load(Ordering::Relaxed) {
            Process::around_fork(before_fork, after_fork_in_parent, after_fork_in_child);
            WATCHES_FORKS.store(true, Ordering::Relaxed);
        }
        while AT_HOOK.swap(true, Ordering::Acquire) {
            thread::yield_now();
        }
        if !LISTENS.load(Ordering::Relaxed) {
            let next = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let _ = PANICS.try_with(|panics| panics.set(panics.get().wrapping_add(1)));
                let location = info.location().map(ToString::to_string);
                let _ = LOCATION.try_with(|place| place.replace(location));
                next(info);
            }));
            LISTENS.store(true, Ordering::Release);
        }
        AT_HOOK.store(false, Ordering::Release);
    });
}

thread_local! {
    /// Whether the fork that this thread makes is at the hook.
    static FORKS_AT_HOOK: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn before_fork() {
    if FORKS_AT_HOOK.get() {
        return;
    }
    let deadline = Instant::now() + FORK_BOUND;
    while AT_HOOK.swap(true, Ordering::Acquire) {
        if Instant::now() > deadline {
            return;
        }
        thread::yield_now();
    }
    FORKS_AT_HOOK.set(true);
}

extern "C" fn after_fork_in_parent() {
    if FORKS_AT_HOOK.take() {
        AT_HOOK.store(false, Ordering::Release);
    }
}

extern "C" fn after_fork_in_child() {
    if !FORKS_AT_HOOK.take() && AT_HOOK.load(Ordering::Relaxed) {
        // Somebody was in the middle, and the standard library's lock may stay locked: to set a hook would wait for it.
        // So does whoever panics in this child, which cannot be helped.
        LISTENS.store(true, Ordering::Relaxed);
    }
    AT_HOOK.store(false, Ordering::Release);
}
