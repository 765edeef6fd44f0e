//! The ways by which Python gets at a Rust future.

use pyo3::prelude::*;
use pyo3_await_pytests::Code;

use crate::adapter::{self, PythonFuture};

/// How a Rust future becomes awaitable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Coroutine,
    EagerCoroutine,
    LocalCoroutine,
    AsyncioFuture,
}

impl Way {
    pub(super) const ALL: [Self; 4] =
        [Self::Coroutine, Self::EagerCoroutine, Self::LocalCoroutine, Self::AsyncioFuture];

    /// Makes a future awaitable. An asyncio future can only be made on the event loop's thread.
    pub(super) fn convert<F, T>(self, py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        match self {
            Self::Coroutine => adapter::into_coroutine(py, future),
            Self::EagerCoroutine => adapter::into_eager_coroutine(py, future),
            Self::LocalCoroutine => adapter::into_local_coroutine(py, future),
            Self::AsyncioFuture => adapter::into_asyncio_future(py, future),
        }
    }

    /// A Python function that makes an awaitable of the future, once.
    pub(super) fn maker<F, T>(self, future: F) -> PyResult<Py<PyAny>>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        maker(move |py| self.convert(py, future))
    }

    /// Python awaits the future, which is made awaitable on the event loop's thread.
    pub(super) fn awaited<F, T>(self, future: F) -> PyResult<PythonFuture>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        awaited(self.maker(future)?)
    }
}

/// A Python function that calls `f`, once, for an awaitable.
pub(super) fn maker(
    f: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    pyo3_await_pytests::once(move |py| f(py).map(Bound::unbind))
}

/// Python awaits what `make` returns, in a task.
pub(super) fn awaited(make: Py<PyAny>) -> PyResult<PythonFuture> {
    Code::new(
        c"
async def await_made(make):
    return await make()
",
    )?
    .future("await_made", (make,))
}
