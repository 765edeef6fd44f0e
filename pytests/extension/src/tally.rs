//! Futures of a random test, and how often each has been dropped.

use std::{
    future,
    panic::resume_unwind,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pyo3::{
    exceptions::{PyNotImplementedError, PyValueError},
    prelude::*,
};
use pyo3_await_tokio::{cancelled, into_future};

use crate::run;

/// More than any test has.
const HOUR: Duration = Duration::from_secs(3600);

/// How often each future that was made has been dropped.
#[pyclass(frozen, module = "bridge")]
#[derive(Clone)]
pub(crate) struct Tally(Arc<Mutex<Vec<usize>>>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One future: it counts its drop.
struct Counted(Tally, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock()[self.1] += 1;
    }
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[pymethods]
impl Tally {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// An awaitable whose future takes some turns, awaits what `inner()` returns, takes some more, and ends as named.
    #[pyo3(signature = (way, turns_before, inner, turns_after, end))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        way: &str,
        turns_before: usize,
        inner: Option<Py<PyAny>>,
        turns_after: usize,
        end: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let counted = {
            let mut drops = self.lock();
            drops.push(0);
            Counted(self.clone(), drops.len() - 1)
        };
        run(py, way, async move {
            let _counted = counted;
            turns(turns_before).await;
            let mut value = None;
            if let Some(inner) = inner {
                let mut future = Python::attach(|py| into_future(inner.call0(py)?.into_bound(py)))?;
                if end == "drop" || end == "detach" {
                    tokio::select! {
                        biased;
                        result = &mut future => drop(result),
                        () = turns(turns_after) => {}
                    }
                    if end == "detach" {
                        future.detach();
                    }
                } else {
                    value = Some(future.await?);
                }
            }
            turns(turns_after).await;
            match &*end {
                "value" | "drop" | "detach" => Ok(value),
                "error" => Err(PyValueError::new_err("injected")),
                // Without a word on stderr.
                "panic" => resume_unwind(Box::new("injected")),
                "never" => future::pending().await,
                "clean up" => {
                    // It is still there while the future cleans up.
                    let mut cancelled = pin!(cancelled(HOUR)?);
                    cancelled.as_mut().await;
                    turns(turns_after).await;
                    Ok(value)
                }
                _ => Err(PyNotImplementedError::new_err(end)),
            }
        })
    }

    /// How often each future has been dropped.
    #[getter]
    fn drops(&self) -> Vec<usize> {
        self.lock().clone()
    }
}
