//! Streams, both ways.

mod into_python;
mod spawned;
mod local;
mod step;
mod polled;
mod alarm;
mod buffer;
mod into_rust;
mod pump;
mod protocol;
mod channel;

pub use self::{
    channel::{Receiver, RecvError, SendError, Sender, channel},
    into_rust::{PythonStream, into_stream},
};

pub(crate) use self::alarm::Alarm;

use futures_core::Stream;
use pyo3::prelude::*;

use crate::Runtime;

/// How many items a stream may be ahead of its consumer.
///
/// A trip between the threads is made for each half of them, and costs as much as some 50 items: with 256 the trips are
/// a third of an item's cost, with this a tenth.
pub(crate) const CAPACITY: usize = 1024;

/// See [`RuntimeExt::into_async_iterator_with_capacity`](crate::RuntimeExt::into_async_iterator_with_capacity).
pub(crate) fn into_async_iterator<R, S, T>(
    py: Python<'_>,
    runtime: R,
    stream: S,
    capacity: usize,
) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    into_python::new(py, spawned::new(runtime, stream, capacity))
}

/// See [`RuntimeExt::into_local_async_iterator`](crate::RuntimeExt::into_local_async_iterator).
pub(crate) fn into_local_async_iterator<R, S, T>(py: Python<'_>, runtime: R, stream: S) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime,
    S: Stream<Item = PyResult<T>> + 'static,
    T: for<'a> IntoPyObject<'a> + 'static,
{
    into_python::new(py, local::new(runtime, stream))
}
