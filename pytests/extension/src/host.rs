//! What `lasting` needs of this library, on the runtime that `BRIDGE_RUNTIME` names: tokio if it names none.

use std::{
    convert::Infallible,
    env,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_lite::Stream;
use pyo3::{exceptions::PyValueError, prelude::*};
pub(crate) use pyo3_await_tokio::into_future;

use crate::lasting::duration;

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

/// Waits for a future in synchronous Python.
fn block_on<F, T>(py: Python<'_>, future: F) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + Send,
    T: Send,
{
    match choice()? {
        Choice::Tokio => pyo3_await_tokio::block_on(py, future),
        Choice::AsyncStd => pyo3_await_async_std::block_on(py, future),
        Choice::Smol => pyo3_await_smol::block_on(py, future),
    }
}

/// Makes an asynchronous iterator.
fn iterate<S, T>(py: Python<'_>, stream: S) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    match choice()? {
        Choice::Tokio => pyo3_await_tokio::into_async_iterator(py, stream),
        Choice::AsyncStd => pyo3_await_async_std::into_async_iterator(py, stream),
        Choice::Smol => pyo3_await_smol::into_async_iterator(py, stream),
    }
}

/// What the control has no counterpart of.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(wait, module)?)?;
    module.add_function(wrap_pyfunction!(attach, module)?)?;
    module.add_function(wrap_pyfunction!(after_in_place, module)?)?;
    module.add_function(wrap_pyfunction!(forks, module)?)?;
    module.add_function(wrap_pyfunction!(ticks, module)?)
}

/// Blocks the calling thread, detached, for some time.
#[pyfunction]
fn wait(py: Python<'_>, seconds: f64) -> PyResult<()> {
    let time = duration(seconds)?;
    block_on(py, async move {
        sleep(time).await;
        Ok(())
    })
}

/// Attaches in the context of the caller.
#[pyfunction]
fn attach() -> PyResult<()> {
    pyo3_await_tokio::attach(|_| Ok(()))
}

/// Ends after a time; the thread of the event loop polls it first, or always.
#[pyfunction]
fn after_in_place(py: Python<'_>, seconds: f64, eager: bool) -> PyResult<Bound<'_, PyAny>> {
    let time = duration(seconds)?;
    let future = async move {
        sleep(time).await;
        Ok(())
    };
    match (choice()?, eager) {
        (Choice::Tokio, false) => pyo3_await_tokio::into_local_coroutine(py, future),
        (Choice::Tokio, true) => pyo3_await_tokio::into_eager_coroutine(py, future),
        (Choice::AsyncStd, false) => pyo3_await_async_std::into_local_coroutine(py, future),
        (Choice::AsyncStd, true) => pyo3_await_async_std::into_eager_coroutine(py, future),
        (Choice::Smol, false) => pyo3_await_smol::into_local_coroutine(py, future),
        (Choice::Smol, true) => pyo3_await_smol::into_eager_coroutine(py, future),
    }
}

/// Calls a function that forks, in a poll on a worker; gives what it returns.
#[pyfunction]
fn forks(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    start(py, async move {
        futures_lite::future::yield_now().await;
        Python::attach(|py| function.call0(py))
    })
}

/// A stream of `value`, an item at a time, without end.
#[pyfunction]
fn ticks(py: Python<'_>, seconds: f64, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let time = duration(seconds)?;
    let value = Arc::new(value);
    iterate(
        py,
        futures_lite::stream::unfold((), move |()| {
            let value = Arc::clone(&value);
            async move {
                sleep(time).await;
                Some((Ok(Tick(value)), ()))
            }
        }),
    )
}

/// A Python object that no worker has to attach for to share it.
struct Tick(Arc<Py<PyAny>>);

impl<'py> IntoPyObject<'py> for Tick {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(self.0.bind(py).clone())
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
