//! What `lasting` needs of this library, on the runtime that `BRIDGE_RUNTIME` names: tokio if it names none.

use std::{env, future::Future, sync::OnceLock, time::Duration};

use pyo3::{exceptions::PyValueError, prelude::*};
pub(crate) use pyo3_await_tokio::into_future;

#[derive(Clone, Copy)]
enum Choice {
    Tokio,
    AsyncStd,
    Smol,
}

fn choice() -> PyResult<Choice> {
    static CHOICE: OnceLock<Option<Choice>> = OnceLock::new();
    let choice = CHOICE.get_or_init(|| match env::var("BRIDGE_RUNTIME").as_deref() {
        Err(_) | Ok("tokio") => Some(Choice::Tokio),
        Ok("async-std") => Some(Choice::AsyncStd),
        Ok("smol") => Some(Choice::Smol),
        Ok(_) => None,
    });
    choice.ok_or_else(|| PyValueError::new_err("BRIDGE_RUNTIME is neither tokio nor async-std nor smol"))
}

/// Starts a future now.
pub(crate) fn start<F, T>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    match choice()? {
        Choice::Tokio => pyo3_await_tokio::into_asyncio_future(py, future),
        Choice::AsyncStd => pyo3_await_async_std::into_asyncio_future(py, future),
        Choice::Smol => pyo3_await_smol::into_asyncio_future(py, future),
    }
}

/// Waits on the runtime's own timer.
pub(crate) async fn sleep(time: Duration) {
    match choice() {
        Ok(Choice::Tokio) | Err(_) => tokio::time::sleep(time).await,
        Ok(Choice::AsyncStd) => async_std::task::sleep(time).await,
        Ok(Choice::Smol) => drop(smol::Timer::after(time).await),
    }
}
