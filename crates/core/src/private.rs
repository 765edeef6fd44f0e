//! What generated code names. Not public API: anything here may change in any release.

use std::future::Future;

pub use futures_core::Stream;
pub use pyo3::{Bound, IntoPyObject, PyAny, PyErr, PyResult, Python};

pub use crate::run::LoopKind;
use crate::{
    Runtime, TaskLocals, coroutine, error, local,
    task::{self, FirstPoll},
};

#[cfg(feature = "macros")]
pub use crate::entry::{EARLY, Failure, LATE, Output, main};

// Methods of `RuntimeExt`, for a runtime that is not needed afterwards: to clone one is to count a reference, which is
// a good part of what a call costs.

pub fn into_coroutine<R, F, T>(runtime: R, py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    coroutine::new(py, task::new(runtime, future, FirstPoll::OnRuntime))
}

pub fn into_eager_coroutine<R, F, T>(runtime: R, py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    coroutine::new(py, task::new(runtime, future, FirstPoll::InPlace))
}

pub fn into_local_coroutine<R, F, T>(runtime: R, py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'a> IntoPyObject<'a> + 'static,
{
    coroutine::new(py, local::new(runtime, future))
}

pub fn into_asyncio_future<R, F, T>(runtime: R, py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let task = task::new(runtime, future, FirstPoll::OnRuntime);
    let Some(locals) = TaskLocals::running(py)? else {
        return Err(error::no_event_loop_to_start_in(task.path().name()));
    };
    task::start(py, task, Some(locals)).map(Bound::into_any)
}
