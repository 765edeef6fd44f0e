//! PyO3's own `async fn`, which is polled on the event loop's thread. It cannot await Python.

use pyo3::prelude::*;

use crate::{futures, submodule, tokio};

#[pyfunction]
async fn ready() -> PyResult<u64> {
    futures::ready().await
}

#[pyfunction]
async fn yield_once() -> PyResult<u64> {
    futures::after(::tokio::task::yield_now).await
}

#[pyfunction]
async fn spawn_once() -> PyResult<u64> {
    futures::after(|| async { tokio().spawn(async {}).await.expect("it does not panic") }).await
}

#[pyfunction]
async fn pending() -> PyResult<u64> {
    futures::pending().await
}

pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    submodule(parent, "native", |module| {
        module.add_function(wrap_pyfunction!(ready, module)?)?;
        module.add_function(wrap_pyfunction!(yield_once, module)?)?;
        module.add_function(wrap_pyfunction!(spawn_once, module)?)?;
        module.add_function(wrap_pyfunction!(pending, module)?)
    })
}
