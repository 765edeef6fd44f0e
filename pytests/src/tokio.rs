//! tokio, with either scheduler.

use std::{future, future::Future, mem, thread, time::Duration};

use pyo3_await_tokio::Tokio;
use tokio::runtime::Builder;

use crate::Subject;

/// tokio's scheduler with several threads.
#[derive(Debug)]
pub struct MultiThread;

/// tokio's scheduler with one thread, which is not the event loop's.
#[derive(Debug)]
pub struct CurrentThread;

impl Subject for MultiThread {
    type Runtime = Tokio;

    fn on_worker() -> bool {
        // What tokio calls its workers has changed from `tokio-runtime-worker` to `tokio-rt-worker`.
        thread::current().name().is_some_and(|name| name.starts_with("tokio-r")) && tokio::task::try_id().is_some()
    }

    fn own(name: &'static str) -> Tokio {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build();
        let runtime = runtime.expect("the runtime starts");
        let tokio = Tokio::new(runtime.handle().clone());
        // Dropping it would shut it down.
        mem::forget(runtime);
        tokio
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(time)
    }
}

impl Subject for CurrentThread {
    type Runtime = Tokio;

    fn on_worker() -> bool {
        thread::current().name() == Some("pyo3-await-tokio") && tokio::task::try_id().is_some()
    }

    fn own(name: &'static str) -> Tokio {
        let runtime = Builder::new_current_thread().enable_all().build().expect("the runtime starts");
        let tokio = Tokio::new(runtime.handle().clone());
        let drive = move || runtime.block_on(future::pending::<()>());
        thread::Builder::new().name(name.to_owned()).spawn(drive).expect("the thread starts");
        tokio
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(time)
    }
}
