//! async-std.

use std::{future::Future, thread, time::Duration};

use pyo3_await_example_runtimes::thread_per_task::ThreadPerTask as Threads;

use crate::Subject;

/// async-std's runtime, of which a process has one.
#[derive(Debug)]
pub struct AsyncStd;

impl Subject for AsyncStd {
    /// Where there can be no second one, another kind has to do.
    type Runtime = Threads;

    fn on_worker() -> bool {
        thread::current().name().is_some_and(|name| name.starts_with("async-std/"))
    }

    fn own(name: &'static str) -> Threads {
        Threads(name)
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        async_std::task::sleep(time)
    }
}
