//! A future that waits until it is told to go on, and counts what happens to it.

use std::{
    future::{self, Future},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyTimeoutError, prelude::*};
use pyo3_await_tokio::{cancelled, spawn};
use tokio::sync::{Semaphore, oneshot};

use crate::{run, runtime::handle};

/// Waiting futures, and what became of them.
#[pyclass(frozen, module = "bridge")]
pub(crate) struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    permits: Semaphore,
    started: AtomicUsize,
    dropped: AtomicUsize,
}

/// One who waits at a gate. It counts its own drop.
pub(crate) struct Guard(Arc<Inner>);

impl Guard {
    /// Ends when the gate opens.
    pub(crate) async fn opened(&self) {
        self.start();
        self.0.permits.acquire().await.expect("the gate is never closed").forget();
    }

    fn start(&self) {
        self.0.started.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// A future that ends when the gate opens.
    pub(crate) fn opened(&self) -> impl Future<Output = ()> + Send + use<> {
        let guard = self.guard();
        async move { guard.opened().await }
    }

    pub(crate) fn guard(&self) -> Guard {
        Guard(Arc::clone(&self.inner))
    }

    fn wait_until(py: Python<'_>, what: &str, done: impl Fn() -> bool + Send) -> PyResult<()> {
        py.detach(|| spin_until(what, done))
    }
}

/// Looks until it is so, and gives up when that takes longer than any machine needs.
fn spin_until(what: &str, done: impl Fn() -> bool) -> PyResult<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        if Instant::now() > deadline {
            return Err(PyTimeoutError::new_err(format!("the futures were not {what} in time")));
        }
        thread::yield_now();
    }
    Ok(())
}

#[pymethods]
impl Gate {
    #[new]
    fn new() -> Self {
        let inner = Inner { permits: Semaphore::new(0), started: AtomicUsize::new(0), dropped: AtomicUsize::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// An awaitable that gives `value` when the gate opens.
    #[pyo3(signature = (way, value = None))]
    fn wait<'py>(&self, py: Python<'py>, way: &str, value: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.opened();
        run(py, way, async move {
            opened.await;
            Ok(value)
        })
    }

    /// An awaitable that raises `error` when the gate opens.
    fn fail<'py>(&self, py: Python<'py>, way: &str, error: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.opened();
        let error = PyErr::from_value(error);
        run(py, way, async move {
            opened.await;
            Err::<(), _>(error)
        })
    }

    /// The same, beside a task that would clean up and is not done with that.
    fn fail_beside_a_clean_up<'py>(
        &self,
        py: Python<'py>,
        way: &str,
        error: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.opened();
        let error = PyErr::from_value(error);
        run(py, way, async move {
            let (sender, receiver) = oneshot::channel();
            spawn(async move {
                let cancelled = cancelled(Duration::from_secs(3600)).expect("it inherits the locals");
                sender.send(()).expect("it is waited for");
                cancelled.await;
                future::pending::<()>().await;
            })?;
            receiver.await.expect("the task sends");
            opened.await;
            Err::<(), _>(error)
        })
    }

    /// An awaitable that panics when the gate opens.
    fn panic<'py>(&self, py: Python<'py>, way: &str) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.opened();
        run(py, way, async move {
            opened.await;
            panic!("injected");
            #[allow(unreachable_code, reason = "it says what the future's type is")]
            Ok(())
        })
    }

    /// Waits, detached, until the gate opens.
    fn block_on(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.opened();
        pyo3_await_tokio::block_on(py, async {
            opened.await;
            Ok(())
        })
    }

    /// An awaitable whose Rust future keeps its worker in one poll, until the gate opens; then it raises the error.
    #[pyo3(signature = (way, error=None))]
    fn block<'py>(&self, py: Python<'py>, way: &str, error: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let guard = self.guard();
        let result = error.map_or(Ok(()), |error| Err(PyErr::from_value(error)));
        let eager = way == "eager";
        run(py, way, async move {
            // The first poll of an eager one is made on the thread of the event loop, which is not to be blocked.
            // A worker has what yields wait aside, where no other worker finds it.
            if eager {
                tokio::task::yield_now().await;
            }
            guard.start();
            spin_until("let through", || guard.0.permits.try_acquire().map(|permit| permit.forget()).is_ok())?;
            result
        })
    }

    /// Lets `count` of the waiting futures end.
    fn open(&self, count: usize) {
        self.inner.permits.add_permits(count);
    }

    /// Lets `count` futures end and sees them end, without letting go of the interpreter.
    ///
    /// Then has the runtime poll as many other tasks, so that a worker which waits for the interpreter is missed.
    fn open_while_attached(&self, count: usize) -> PyResult<()> {
        let before = self.dropped();
        self.open(count);
        spin_until("dropped", || self.dropped() >= before + count)?;
        let polled = Arc::new(AtomicUsize::new(0));
        let runtime = handle()?;
        for _ in 0..count {
            let polled = Arc::clone(&polled);
            runtime.spawn(async move {
                polled.fetch_add(1, Ordering::SeqCst);
            });
        }
        spin_until("polled", || polled.load(Ordering::SeqCst) == count)
    }

    /// How many futures have been polled.
    #[getter]
    fn started(&self) -> usize {
        self.inner.started.load(Ordering::SeqCst)
    }

    /// How many futures have been dropped.
    #[getter]
    fn dropped(&self) -> usize {
        self.inner.dropped.load(Ordering::SeqCst)
    }

    /// Blocks, detached, until `count` futures have been dropped.
    fn wait_for_drops(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        Self::wait_until(py, "dropped", || self.dropped() >= count)
    }

    /// Blocks, detached, until `count` futures have been polled.
    fn wait_for_starts(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        Self::wait_until(py, "polled", || self.started() >= count)
    }

    /// Blocks, detached, until each worker is kept by a future of `block`.
    ///
    /// A worker that is about to sleep overlooks, now and then, a task that has come to wait behind one that blocks:
    /// tokio promises nothing to tasks that block. Another task, which does nothing, has it look again.
    fn wait_for_workers(&self, py: Python<'_>) -> PyResult<()> {
        let runtime = handle()?;
        let workers = runtime.metrics().num_workers();
        Self::wait_until(py, "polled", || {
            drop(runtime.spawn(future::ready(())));
            thread::sleep(Duration::from_millis(1));
            self.started() >= workers
        })
    }
}
