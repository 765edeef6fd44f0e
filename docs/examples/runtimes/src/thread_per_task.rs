//! One thread for each future: the least that a runtime can be.
//!
//! # The contract
//!
//! - The future is polled on its own thread only, so never in place, and until it is ready.
//! - No wake-up is lost: it sets the flag before it unparks the thread, and the thread looks at the flag before it
//!   parks.
//!   The flag is needed, for a token of `unpark` alone may be consumed by a future that parks in its poll, as
//!   everything does that blocks on a channel of the standard library.
//! - There is no shutdown: a thread ends with its future, and the process does not wait for it.
//! - A forked child starts threads of its own.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    thread::{self, Thread},
};

/// One thread for each future, all of them of this name.
#[derive(Clone, Copy, Debug)]
pub struct ThreadPerTask(pub &'static str);

impl pyo3_await::Runtime for ThreadPerTask {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let thread = thread::Builder::new().name(self.0.to_owned());
        // Where there is no thread to be had, the future is dropped, and its awaiter gets an error.
        drop(thread.spawn(|| poll_to_end(future)));
    }
}

fn poll_to_end(future: impl Future<Output = ()>) {
    let bell = Arc::new(Bell { thread: thread::current(), rung: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        // Acquire pairs with the release in `wake`.
        while !bell.rung.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

struct Bell {
    thread: Thread,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

pyo3_await::adapter!(ThreadPerTask, Ok(ThreadPerTask("thread-per-task")));

pub use pyo3_await_testing as testing;
