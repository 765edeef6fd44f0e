//! One thread for each core, and on each a compio runtime of its own: futures are sent there, and stay there.
//!
//! # The contract
//!
//! - A future is sent through a channel, so it is never polled in place; it is polled until it is ready.
//! - Its wakers are those of the core's runtime, which may be woken from any thread: that schedules the future and
//!   writes to a descriptor that the runtime waits for, and it blocks nobody.
//! - A core's thread ends when the last [`ThreadPerCore`] is gone and all that was sent has ended: nothing is dropped
//!   early.
//!   The module's own runtime, which its free functions use, lasts as long as the process.
//! - In a forked child the threads are not there, and what is spawned is dropped at once; the module's own runtime is
//!   another one there.
//!
//! # compio's own timers and I/O
//!
//! They belong to the thread that they were made on, so their futures are not [`Send`].
//! A future of the bridge is, since it comes from another thread; but it stays where it was sent, and what it spawns by
//! `compio::runtime::spawn` runs there, too:
//!
//! ```
//! use std::time::Duration;
//!
//! use pyo3::prelude::*;
//! use pyo3_await_example_runtimes::thread_per_core;
//!
//! # fn main() -> PyResult<()> {
//! # Python::initialize();
//! let answer = Python::attach(|py| {
//!     thread_per_core::run(py, async {
//!         let sleeper = compio::runtime::spawn(async {
//!             compio::time::sleep(Duration::from_millis(1)).await;
//!             42
//!         });
//!         Ok(sleeper.await.expect("sleeping does not panic"))
//!     })
//! })?;
//! assert_eq!(answer, 42);
//! # Ok(())
//! # }
//! ```
//!
//! A local coroutine has none of this: the thread of the event loop polls it, and drives no runtime.
//! `enter` can lend what a thread-local names, but not that.

use std::{
    future::Future,
    io,
    num::NonZero,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use pyo3::{PyResult, exceptions::PyRuntimeError};

/// Threads that take futures in turn.
#[derive(Clone, Debug)]
pub struct ThreadPerCore {
    cores: Arc<[Core]>,
    /// Counts the futures; it carries nothing but itself, so that `Relaxed` will do.
    next: Arc<AtomicUsize>,
    /// Where the threads are.
    process: Process,
}

/// Where a core's futures are sent.
type Core = UnboundedSender<Pin<Box<dyn Future<Output = ()> + Send>>>;

impl pyo3_await::Runtime for ThreadPerCore {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // In a forked child, to drop the future is to tell its awaiter that the threads are not there.
        if !self.process.is_current() {
            return;
        }
        let core = self.next.fetch_add(1, Ordering::Relaxed) % self.cores.len();
        // A core whose runtime has failed drops the future, and its awaiter gets an error.
        drop(self.cores[core].unbounded_send(Box::pin(future)));
    }
}

impl ThreadPerCore {
    /// Starts this many threads, all of one name.
    ///
    /// # Errors
    ///
    /// What keeps a thread or its runtime from starting.
    pub fn start(name: &str, threads: NonZero<usize>) -> io::Result<Self> {
        let cores = (0..threads.get()).map(|_| start(name)).collect::<io::Result<_>>()?;
        Ok(Self { cores, next: Arc::default(), process: Process::current() })
    }
}

fn start(name: &str) -> io::Result<Core> {
    let (sender, receiver) = unbounded();
    let (started, has_started) = mpsc::sync_channel(1);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The runtime cannot leave the thread that it was made on.
        match compio::runtime::Runtime::new() {
            Ok(runtime) => {
                drop(started.send(Ok(())));
                runtime.block_on(work(receiver));
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    has_started.recv().unwrap_or_else(|_| Err(io::Error::other("the runtime panicked at its start")))?;
    Ok(sender)
}

/// Runs all that is sent, until there is nobody left to send anything.
async fn work(futures: UnboundedReceiver<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    futures.for_each_concurrent(None, |future| future).await;
}

fn current() -> PyResult<ThreadPerCore> {
    static CURRENT: PerProcess<LazyLock<io::Result<ThreadPerCore>>> = PerProcess::new(|_of_the_parent| {
        LazyLock::new(|| ThreadPerCore::start("core", thread::available_parallelism()?))
    });
    match &**CURRENT.get() {
        Ok(runtime) => Ok(runtime.clone()),
        Err(error) => Err(PyRuntimeError::new_err(format!("the thread-per-core runtime can't be started: {error}"))),
    }
}

pyo3_await::adapter!(ThreadPerCore, current());

pub use pyo3_await_testing as testing;
