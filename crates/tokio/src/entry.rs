//! What tokio's options on `#[main]` and `#[test]` expand to calls.

use pyo3::{PyResult, exceptions::PyRuntimeError};
use tokio::runtime::Builder;

use crate::Tokio;

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

/// Starts a runtime for one test: `#[test(flavor = ..., worker_threads = ...)]`.
///
/// # Errors
///
/// `RuntimeError` when it can't be started.
pub fn own_runtime(flavor: Flavor, worker_threads: Option<usize>) -> PyResult<Tokio> {
    Tokio::start(builder(flavor, worker_threads))
        .map_err(|error| PyRuntimeError::new_err(format!("the test's own tokio runtime can't be started: {error}")))
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
