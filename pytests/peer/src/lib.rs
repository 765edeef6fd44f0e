//! The control of `cargo xtask stress`: the functions that its programs call, on `pyo3-async-runtimes`.

#[path = "../../extension/src/lasting.rs"]
mod lasting;

use pyo3::prelude::*;

#[pymodule]
fn peer(module: &Bound<'_, PyModule>) -> PyResult<()> {
    lasting::add_to(module)
}

/// What `lasting` needs of the library.
mod host {
    use std::{future::Future, time::Duration};

    use pyo3::prelude::*;
    pub(crate) use pyo3_async_runtimes::tokio::into_future;

    /// Starts a future now.
    pub(crate) fn start<F, T>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'a> IntoPyObject<'a> + Send + 'static,
    {
        pyo3_async_runtimes::tokio::future_into_py(py, future)
    }

    /// Waits on the runtime's own timer.
    pub(crate) async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}
