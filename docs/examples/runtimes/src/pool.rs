//! A pool that the application has already: the bridge's futures run on its threads, beside the application's own.
//!
//! # The contract
//!
//! - `async-executor` puts a future in its queue, so it is never polled in place; a task that is detached is polled
//!   until it is ready.
//! - A waker puts the future back in the queue and unparks one of the threads; it may be woken from anywhere.
//! - When the application drops its executor, that drops the futures which wait in it, and their awaiters get an error.
//!   Each of these futures holds a [`Pool`]; so a `Pool` must not keep the executor, or neither would ever be dropped.
//!   To end the threads alone is not enough: futures that nobody polls or drops leave their awaiters waiting.
//! - In a forked child the application's threads are not there, and what is spawned is dropped at once.
//!   The module's own application, which its free functions use, is another one there.

use std::{
    future::Future,
    io,
    num::NonZero,
    sync::{Arc, LazyLock, Weak},
    thread,
};

use async_executor::Executor;
use futures::{FutureExt as _, channel::oneshot};
use futures_lite::future;
use pyo3::{PyResult, exceptions::PyRuntimeError};

/// The bridge's runtime: somebody else's executor, as long as it is there.
#[derive(Clone, Debug)]
pub struct Pool {
    executor: Weak<Executor<'static>>,
    /// Where its threads are.
    process: Process,
}

impl pyo3_await::Runtime for Pool {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let executor = if self.process.is_current() { self.executor.upgrade() } else { None };
        match executor {
            // A task is cancelled when its handle is dropped, unless it is detached.
            Some(executor) => executor.spawn(future).detach(),
            // To drop it is to tell its awaiter that the runtime has shut down, or was left behind by a fork.
            None => drop(future),
        }
    }
}

impl Pool {
    /// The pool of an executor that somebody runs, in this process, and keeps.
    #[must_use]
    pub fn of(executor: &Arc<Executor<'static>>) -> Self {
        Self { executor: Arc::downgrade(executor), process: Process::current() }
    }
}

/// What stands for the application here: an executor, and threads that run it.
///
/// Dropping it ends the threads, and the last of them drops the executor.
#[derive(Debug)]
pub struct Application {
    executor: Arc<Executor<'static>>,
    /// The threads stop when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl Application {
    /// Starts this many threads, all of one name.
    ///
    /// # Errors
    ///
    /// What keeps a thread from starting.
    pub fn start(name: &str, threads: NonZero<usize>) -> io::Result<Self> {
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = oneshot::channel();
        let stopped = stopped.shared();
        for _ in 0..threads.get() {
            let executor = Arc::clone(&executor);
            let stopped = stopped.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || future::block_on(executor.run(stopped)))?;
        }
        Ok(Self { executor, _stop: stop })
    }

    /// What the application runs its own work on.
    #[must_use]
    pub fn executor(&self) -> &Arc<Executor<'static>> {
        &self.executor
    }
}

fn current() -> PyResult<Pool> {
    static APPLICATION: PerProcess<LazyLock<io::Result<Application>>> = PerProcess::new(|_of_the_parent| {
        LazyLock::new(|| Application::start("pool", thread::available_parallelism()?))
    });
    match &**APPLICATION.get() {
        Ok(application) => Ok(Pool::of(application.executor())),
        Err(error) => Err(PyRuntimeError::new_err(format!("the application's pool can't be started: {error}"))),
    }
}

pyo3_await::adapter!(Pool, current());

pub use pyo3_await_testing as testing;
