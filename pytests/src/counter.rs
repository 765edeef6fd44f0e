//! What is counted by some and waited for by others, in Rust and in Python.

use std::{
    future, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use futures::executor::block_on;
use pyo3::prelude::*;

/// A number that only grows. Clones are the same counter; to Python it is a function that adds one.
#[pyclass(frozen, from_py_object, module = "pyo3_await_pytests")]
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    count: usize,
    /// Who waits, and for how many.
    waiting: Vec<(usize, Waker)>,
}

impl Counter {
    /// Zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&self) {
        let due = {
            let mut state = self.lock();
            state.count += 1;
            let count = state.count;
            let (due, waiting) = mem::take(&mut state.waiting).into_iter().partition(|(number, _)| *number <= count);
            state.waiting = waiting;
            due
        };
        let due: Vec<(usize, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> usize {
        self.lock().count
    }

    /// Waits until the number is `number` or more.
    pub async fn reached(&self, number: usize) {
        future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.count >= number {
                return Poll::Ready(());
            }
            state.waiting.push((number, cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Blocks until the number is `number` or more. Whoever is attached stays so.
    pub fn wait(&self, number: usize) {
        block_on(self.reached(number));
    }

    /// What adds one when it is dropped.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Counter {
    #[pyo3(name = "get")]
    fn get_from_python(&self) -> usize {
        self.get()
    }

    fn __call__(&self) {
        self.add();
    }
}

/// Adds one to a [`Counter`] when it is dropped.
#[derive(Debug)]
pub struct Guard(Counter);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.add();
    }
}
