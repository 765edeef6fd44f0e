//! async-std, as a runtime of the bridge.

use std::{env, future::Future, sync::LazyLock, thread};

use async_std::task;
use pyo3_await::{PerProcess, Runtime};

/// async-std's runtime: a process has one, which starts on first use and lasts as long as the process.
///
/// It is configured from outside, by async-std's own environment variables: `ASYNC_STD_THREAD_COUNT`, by default as
/// many as there are cores, and `ASYNC_STD_THREAD_NAME`.
///
/// In a process that was forked after its parent had used it, it cannot be used: a Rust future that is awaited there
/// raises `RuntimeError`.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_await_async_std::{AsyncStd, RuntimeExt};
///
/// # fn main() -> PyResult<()> {
/// # Python::initialize();
/// let seven = Python::attach(|py| AsyncStd.run(py, async { Ok(7) }))?;
/// assert_eq!(seven, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd;

/// Whether the runtime's threads are in this process, and not in one that has forked it.
static STARTED_HERE: PerProcess<bool> = PerProcess::new(|parents| parents.is_none());

impl Runtime for AsyncStd {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // async-std starts its threads once in a process's life, and a forked child cannot start them again.
        // There, to drop the future is to tell its awaiter so.
        if !self.is_left_behind() {
            // A task whose handle is dropped runs on.
            task::spawn(future);
        }
    }

    fn is_in_task(&self) -> bool {
        static WORKER: LazyLock<String> =
            LazyLock::new(|| env::var("ASYNC_STD_THREAD_NAME").unwrap_or_else(|_| "async-std/runtime".to_owned()));

        // The future of async-std's own `block_on` looks like a task, and has its thread for itself.
        task::try_current().is_some() && thread::current().name() == Some(&**WORKER)
    }

    fn is_left_behind(&self) -> bool {
        !*STARTED_HERE.get()
    }

    // The default `enter` does: timers and sockets register with a reactor that has a thread of its own and serves the
    // whole process, and look for nothing in the thread that polls them.
}
