//! The smallest runtime there is: one thread for each future.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use pyo3_await::Runtime;

/// One thread for each future, all of them of one name.
#[derive(Clone, Debug)]
pub struct Threads(pub &'static str);

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
        let run = || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut future = pin!(future);
            while future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
                thread::park();
            }
        };
        thread::Builder::new().name(self.0.to_owned()).spawn(run).expect("the thread starts");
    }
}
