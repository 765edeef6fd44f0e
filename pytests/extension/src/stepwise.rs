//! A runtime that polls only when it is told to, so that a test decides what comes when.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use pyo3::prelude::*;
use pyo3_await_tokio::{Runtime, into_future_with};

use crate::{gate::Gate, run_on};

/// The runtime, as it is known to Python.
#[pyclass(frozen, module = "bridge")]
#[derive(Clone)]
pub(crate) struct Stepwise(Arc<Queue>);

/// What is to be polled.
#[derive(Default)]
struct Queue(Mutex<VecDeque<Arc<Task>>>);

struct Task {
    queue: Arc<Queue>,
    state: Mutex<State>,
}

struct State {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    queued: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Task>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls all that is there and that comes meanwhile; how often it has polled.
    fn run(&self) -> usize {
        let mut polls = 0;
        while let Some(task) = { self.lock().pop_front() } {
            task.poll();
            polls += 1;
        }
        polls
    }
}

impl Task {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(self: Arc<Self>) {
        let mut state = self.lock();
        state.queued = false;
        // It may be woken, or drop its last waker, while it is polled.
        let Some(mut future) = state.future.take() else { return };
        drop(state);
        let waker = Waker::from(Arc::clone(&self));
        if future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
            self.lock().future = Some(future);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !mem::replace(&mut self.lock().queued, true) {
            self.queue.lock().push_back(Arc::clone(&self));
        }
    }
}

impl Runtime for Stepwise {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let state = Mutex::new(State { future: Some(Box::pin(future)), queued: false });
        Arc::new(Task { queue: Arc::clone(&self.0), state }).wake();
    }
}

#[pymethods]
impl Stepwise {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// An awaitable that ends when the gate opens: it raises `error`, or gives `value`.
    fn wait<'py>(
        &self,
        py: Python<'py>,
        way: &str,
        gate: &Gate,
        value: Option<Py<PyAny>>,
        error: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let opened = gate.opened();
        let error = error.map(PyErr::from_value);
        run_on(self, py, way, async move {
            opened.await;
            error.map_or(Ok(value), Err)
        })
    }

    /// An awaitable whose Rust future awaits what `make` makes.
    fn call<'py>(&self, py: Python<'py>, way: &str, make: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        run_on(self, py, way, async move { into_future_with(move |py| make.bind(py).call0())?.await })
    }

    /// Polls, detached, until there is nothing more to poll; how often it has polled.
    fn run(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.run())
    }
}
