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
pub(crate) async fn call_sequentially<F>(call: impl Fn() -> PyResult<F>, count: usize) -> PyResult<usize>
where
    F: Future<Output = PyResult<Py<PyAny>>>,
{
    for _ in 0..count {
        call()?.await?;
    }
    Ok(count)
}

/// So many calls at the same time.
pub(crate) fn all<F>(call: impl Fn() -> PyResult<F>, count: usize) -> PyResult<FuturesUnordered<F>> {
    (0..count).map(|_| call()).collect()
}

/// Awaits calls that are made when it is polled first.
pub(crate) async fn call_at_once<F>(calls: impl FnOnce() -> PyResult<FuturesUnordered<F>>) -> PyResult<usize>
where
    F: Future<Output = PyResult<Py<PyAny>>>,
{
    let mut calls = calls()?;
    let mut ended = 0;
    while calls.try_next().await?.is_some() {
        ended += 1;
    }
    Ok(ended)
}

/// Has a Python function called by whoever polls, who attaches for that.
pub(crate) fn attached<F>(
    convert: impl Fn(Bound<'_, PyAny>) -> PyResult<F>,
    function: Py<PyAny>,
) -> impl Fn() -> PyResult<F> {
    move || Python::attach(|py| convert(function.bind(py).call0()?))
}
