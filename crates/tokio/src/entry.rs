//! What tokio's options on `#[main]` and `#[test]` expand to calls.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pyo3::{PyResult, exceptions::PyRuntimeError};
use pyo3_await::Runtime;
use tokio::runtime::Builder;

use crate::{Tokio, runtime::Threads};

/// tokio's runtime flavors.
#[derive(Clone, Copy, Debug)]
pub enum Flavor {
    /// A scheduler with several threads.
    MultiThread,
    /// A scheduler with one thread, which drives it.
    CurrentThread,
}

/// Shapes the process-wide default runtime, and starts it: `#[main(flavor = ..., worker_threads = ...)]`.
///
/// # Errors
///
/// `RuntimeError` when the default runtime has been used already, or can't be started.
pub fn shape_default(flavor: Flavor, worker_threads: Option<usize>) -> PyResult<Tokio> {
    Tokio::configure(builder(flavor, worker_threads))?;
    Tokio::current()
}

/// The runtime of one test: `#[test(flavor = ..., worker_threads = ...)]`. It is shut down with the last of its clones.
#[derive(Clone, Debug)]
pub struct Own(Arc<Running>);

#[derive(Debug)]
struct Running {
    tokio: Tokio,
    threads: Mutex<Option<Threads>>,
}

/// Starts a runtime for one test.
///
/// # Errors
///
/// `RuntimeError` when it can't be started.
pub fn own_runtime(flavor: Flavor, worker_threads: Option<usize>) -> PyResult<Own> {
    let (tokio, threads) = Tokio::build(&mut builder(flavor, worker_threads))
        .map_err(|error| PyRuntimeError::new_err(format!("the test's own tokio runtime can't be started: {error}")))?;
    Ok(Own(Arc::new(Running { tokio, threads: Mutex::new(Some(threads)) })))
}

impl Drop for Running {
    fn drop(&mut self) {
        // The last clone may be in one of its own tasks.
        if let Some(threads) = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            threads.stop(Duration::ZERO);
        }
    }
}

impl Runtime for Own {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tokio.spawn(future);
    }

    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.0.tokio.enter(f)
    }

    fn is_in_task(&self) -> bool {
        self.0.tokio.is_in_task()
    }

    fn is_left_behind(&self) -> bool {
        self.0.tokio.is_left_behind()
    }
}

fn builder(flavor: Flavor, worker_threads: Option<usize>) -> Builder {
    let mut builder = match flavor {
        Flavor::MultiThread => Builder::new_multi_thread(),
        Flavor::CurrentThread => Builder::new_current_thread(),
    };
    builder.enable_all();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    builder
}
