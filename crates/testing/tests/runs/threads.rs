//! A runtime of one's own: a thread for each future.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
};

pyo3_await::adapter!(Threads, Ok(Threads));
pub(crate) use pyo3_await_testing as testing;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Runtime for Threads {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let thread = thread::Builder::new().name("threads".to_owned());
        let run = || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut future = std::pin::pin!(future);
            while future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
                thread::park();
            }
        };
        thread.spawn(run).expect("the thread starts");
    }
}
