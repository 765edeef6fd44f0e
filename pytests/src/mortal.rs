//! A runtime that can be shut down, made of any other.

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex},
};

use futures::{
    FutureExt as _,
    future::{AbortHandle, abortable},
};
use pyo3_await::Runtime;

/// A runtime that drops its futures when it is told to, on the threads of another one.
#[derive(Clone, Debug)]
pub struct Mortal<R> {
    runtime: R,
    living: Arc<Mutex<Vec<AbortHandle>>>,
}

impl<R: Runtime> Mortal<R> {
    /// Nothing is different until [`shut_down`](Self::shut_down).
    pub fn new(runtime: R) -> Self {
        Self { runtime, living: Arc::default() }
    }

    /// Drops all futures that have not ended.
    ///
    /// # Panics
    ///
    /// Never: nothing panics under the lock.
    pub fn shut_down(&self) {
        let living = mem::take(&mut *self.living.lock().expect("nothing panics under the lock"));
        living.iter().for_each(AbortHandle::abort);
    }
}

impl<R: Runtime> Runtime for Mortal<R> {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (future, handle) = abortable(future);
        self.living.lock().expect("nothing panics under the lock").push(handle);
        self.runtime.spawn(future.map(drop));
    }

    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.runtime.enter(f)
    }
}
