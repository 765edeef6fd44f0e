//! The futures, generic over what differs between the runtimes and the contenders.

use std::future::Future;

use ::futures::stream::{FuturesUnordered, TryStreamExt};
use pyo3::prelude::*;
use tokio::sync::Notify;

/// What each future that gives something gives.
const VALUE: u64 = 1;

static RELEASE: Notify = Notify::const_new();

pub(crate) fn release() {
    RELEASE.notify_waiters();
}

/// Is ready at the first poll.
pub(crate) async fn ready() -> PyResult<u64> {
    Ok(VALUE)
}

/// Does one thing of a runtime, and is ready.
pub(crate) async fn after<F: Future<Output = ()>>(one_thing: impl FnOnce() -> F) -> PyResult<u64> {
    one_thing().await;
    Ok(VALUE)
}

/// Waits for `release`.
pub(crate) async fn pending() -> PyResult<u64> {
    RELEASE.notified().await;
    Ok(VALUE)
}

/// Awaits what a Python function returns, `count` times, one after the other.
pub(crate) async fn call_sequentially<C, F>(convert: C, function: Py<PyAny>, count: usize) -> PyResult<usize>
where
    C: Fn(Bound<'_, PyAny>) -> PyResult<F>,
    F: Future<Output = PyResult<Py<PyAny>>>,
{
    for _ in 0..count {
        Python::attach(|py| convert(function.bind(py).call0()?))?.await?;
    }
    Ok(count)
}

/// The same, all at the same time.
pub(crate) async fn call_at_once<C, F>(convert: C, function: Py<PyAny>, count: usize) -> PyResult<usize>
where
    C: Fn(Bound<'_, PyAny>) -> PyResult<F>,
    F: Future<Output = PyResult<Py<PyAny>>>,
{
    let mut calls: FuturesUnordered<F> = Python::attach(|py| {
        let call = |_| convert(function.bind(py).call0()?);
        (0..count).map(call).collect::<PyResult<_>>()
    })?;
    let mut ended = 0;
    while calls.try_next().await?.is_some() {
        ended += 1;
    }
    Ok(ended)
}
