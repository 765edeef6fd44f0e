//! What the cases know of the runtime that they run on.

use std::{future::Future, time::Duration};

use pyo3_await::Runtime;

/// A Rust runtime, beside its adapter.
pub trait Subject {
    /// The adapter's type.
    type Runtime: Runtime;

    /// How many futures may wait at the same time.
    const MANY: usize = 100_000;

    /// Whether the calling thread is a worker of the adapter's current runtime.
    fn on_worker() -> bool;

    /// A runtime of the test's own, whose workers are threads of this name. It lasts as long as the process.
    fn own(name: &'static str) -> Self::Runtime;

    /// A timer of the runtime.
    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static;
}
