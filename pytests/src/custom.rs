//! The runtimes of one's own that the guide shows.

use std::{future::Future, mem, num::NonZero, thread, time::Duration};

use pyo3_await_example_runtimes::{
    pool::{Application, Pool as Own},
    thread_per_core::ThreadPerCore as Cores,
    thread_per_task::ThreadPerTask as Threads,
};

use crate::{Subject, smol::sleep};

/// One thread for each future.
#[derive(Debug)]
pub struct ThreadPerTask;

/// One compio runtime for each core.
#[derive(Debug)]
pub struct ThreadPerCore;

/// A pool that the application has.
#[derive(Debug)]
pub struct Pool;

impl Subject for ThreadPerTask {
    type Runtime = Threads;

    /// Each of them is a thread, and two tests may run at the same time.
    const MANY: usize = 1_000;

    fn on_worker() -> bool {
        thread::current().name() == Some("thread-per-task")
    }

    fn own(name: &'static str) -> Threads {
        Threads(name)
    }

    /// It has no timers, and any will do that looks for no runtime.
    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        sleep(time)
    }
}

impl Subject for ThreadPerCore {
    type Runtime = Cores;

    fn on_worker() -> bool {
        thread::current().name() == Some("core")
    }

    fn own(name: &'static str) -> Cores {
        Cores::start(name, TWO).expect("the threads start")
    }

    /// Not compio's, which only works on compio's threads, and not in a local coroutine.
    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        sleep(time)
    }
}

impl Subject for Pool {
    type Runtime = Own;

    fn on_worker() -> bool {
        thread::current().name() == Some("pool")
    }

    fn own(name: &'static str) -> Own {
        let application = Application::start(name, TWO).expect("the threads start");
        let pool = Own::of(application.executor());
        // Dropping it would shut it down.
        mem::forget(application);
        pool
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        sleep(time)
    }
}

const TWO: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(1);
