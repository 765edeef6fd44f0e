//! A runtime that looks at nothing until it is told to, made of any other.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
};

use pyo3_await::Runtime;

/// A runtime that holds back what is spawned, on the threads of another one.
#[derive(Clone)]
pub struct Held<R> {
    runtime: R,
    /// `None` when nothing is held back any more.
    waiting: Arc<Mutex<Option<Vec<Task>>>>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<R: Runtime> Held<R> {
    /// Nothing is polled until [`release`](Self::release).
    pub fn new(runtime: R) -> Self {
        Self { runtime, waiting: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// Lets all futures go on, those to come too.
    ///
    /// # Panics
    ///
    /// Never: nothing panics under the lock.
    pub fn release(&self) {
        let waiting = mem::take(&mut *self.waiting.lock().expect("nothing panics under the lock"));
        waiting.into_iter().flatten().for_each(|future| self.runtime.spawn(future));
    }
}

impl<R: Runtime> Runtime for Held<R> {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut waiting = self.waiting.lock().expect("nothing panics under the lock");
        match &mut *waiting {
            Some(waiting) => waiting.push(Box::pin(future)),
            None => {
                drop(waiting);
                self.runtime.spawn(future);
            }
        }
    }

    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.runtime.enter(f)
    }
}

impl<R> std::fmt::Debug for Held<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
