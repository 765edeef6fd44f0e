//! smol.

use std::{
    future::{self, Future},
    sync::Arc,
    thread,
    time::Duration,
};

use smol::{Executor, Timer};

use crate::Subject;

/// smol's global executor, and others.
#[derive(Debug)]
pub struct Smol;

impl Subject for Smol {
    type Runtime = pyo3_await_smol::Smol;

    fn on_worker() -> bool {
        thread::current().name().is_some_and(|name| name.starts_with("smol-"))
    }

    fn own(name: &'static str) -> pyo3_await_smol::Smol {
        let executor = Arc::new(Executor::new());
        for _ in 0..2 {
            let executor = Arc::clone(&executor);
            let drive = move || smol::block_on(executor.run(future::pending::<()>()));
            thread::Builder::new().name(name.to_owned()).spawn(drive).expect("the thread starts");
        }
        pyo3_await_smol::Smol::new(&executor)
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send + 'static {
        sleep(time)
    }
}

/// A timer that any thread may poll.
pub(crate) async fn sleep(time: Duration) {
    Timer::after(time).await;
}
