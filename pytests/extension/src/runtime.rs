//! The runtimes behind the tests.

use std::sync::Mutex;

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_tokio::{Tokio, current_runtime};
use tokio::runtime::Handle;

use crate::{gate::Gate, run_on};

/// A tokio runtime that can be shut down.
#[pyclass(frozen, module = "bridge")]
pub(crate) struct Runtime {
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    tokio: Tokio,
}

#[pymethods]
impl Runtime {
    #[new]
    fn new() -> PyResult<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let tokio = Tokio::new(runtime.handle().clone());
        Ok(Self { runtime: Mutex::new(Some(runtime)), tokio })
    }

    /// An awaitable of this runtime, that ends when the gate opens.
    fn wait<'py>(&self, py: Python<'py>, way: &str, gate: &Gate) -> PyResult<Bound<'py, PyAny>> {
        if self.runtime.lock().expect("nothing panics under the lock").is_none() {
            return Err(PyRuntimeError::new_err("the runtime was shut down"));
        }
        let opened = gate.opened();
        run_on(&self.tokio, py, way, async move {
            opened.await;
            Ok(())
        })
    }

    /// Drops the runtime, and with it every future that has not ended.
    fn shut_down(&self, py: Python<'_>) {
        let runtime = self.runtime.lock().expect("nothing panics under the lock").take();
        py.detach(|| drop(runtime));
    }
}

/// How many threads the default runtime has.
#[pyfunction]
pub(crate) fn workers() -> PyResult<usize> {
    Ok(handle()?.metrics().num_workers())
}

/// The default runtime, as tokio has it.
pub(crate) fn handle() -> PyResult<Handle> {
    Ok(current_runtime()?.handle().clone())
}
