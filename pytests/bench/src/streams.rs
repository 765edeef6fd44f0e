//! Streams in both directions: the same source and the same consumer for each contender.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use ::futures::{Stream, StreamExt, future::BoxFuture};
use pyo3::{exceptions::PyStopAsyncIteration, intern, prelude::*};
use tokio::sync::{Mutex, mpsc};

use crate::{submodule, tokio};

/// How many items are in the channel that feeds a stream.
const CHANNEL: usize = 1024;

/// How many items are taken out of a stream at a time, if there are as many.
const CHUNK: usize = 64;

/// Items that a task of the runtime sends, 0 and up.
fn source(count: u64, spawn: impl FnOnce(BoxFuture<'static, ()>)) -> mpsc::Receiver<u64> {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    spawn(Box::pin(async move {
        for number in 0..count {
            if sender.send(number).await.is_err() {
                return;
            }
        }
    }));
    receiver
}

fn on_tokio(task: BoxFuture<'static, ()>) {
    tokio().spawn(task);
}

fn on_async_std(task: BoxFuture<'static, ()>) {
    async_std::task::spawn(task);
}

fn on_smol(task: BoxFuture<'static, ()>) {
    smol::spawn(task).detach();
}

/// The source, as a stream.
struct Items(mpsc::Receiver<u64>);

impl Stream for Items {
    type Item = PyResult<u64>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|number| number.map(Ok))
    }
}

/// The sum of the numbers that Python gives. Whoever looks at them has to attach; it does so once for a chunk.
async fn sum(stream: impl Stream<Item = PyResult<Py<PyAny>>>) -> PyResult<u64> {
    let mut chunks = pin!(stream.ready_chunks(CHUNK));
    let mut sum = 0;
    while let Some(chunk) = chunks.next().await {
        sum += Python::attach(|py| {
            chunk.into_iter().map(|item| item?.into_bound(py).extract::<u64>()).sum::<PyResult<u64>>()
        })?;
    }
    Ok(sum)
}

type Object<'py> = PyResult<Bound<'py, PyAny>>;

/// This library on one runtime.
macro_rules! contender {
    ($name:ident, $local:ident, $adapter:ident, $on_runtime:ident) => {
        mod $name {
            use super::*;

            #[pyfunction]
            pub(super) fn items(py: Python<'_>, count: u64) -> Object<'_> {
                $adapter::into_async_iterator(py, Items(source(count, $on_runtime)))
            }

            #[pyfunction]
            pub(super) fn consume<'py>(py: Python<'py>, iterable: Bound<'py, PyAny>) -> Object<'py> {
                $adapter::into_coroutine(py, sum($adapter::into_stream(iterable)?))
            }
        }

        mod $local {
            use super::*;

            #[pyfunction]
            pub(super) fn items(py: Python<'_>, count: u64) -> Object<'_> {
                $adapter::into_local_async_iterator(py, Items(source(count, $on_runtime)))
            }
        }
    };
}

macro_rules! contenders {
    ($($name:ident, $local:ident: $adapter:ident with $on_runtime:ident;)*) => {
        $(contender!($name, $local, $adapter, $on_runtime);)*

        fn add_ours_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
            $(
                submodule(parent, stringify!($name), |module| {
                    module.add_function(wrap_pyfunction!($name::items, module)?)?;
                    module.add_function(wrap_pyfunction!($name::consume, module)?)
                })?;
                submodule(parent, stringify!($local), |module| {
                    module.add_function(wrap_pyfunction!($local::items, module)?)
                })?;
            )*
            Ok(())
        }
    };
}

contenders! {
    tokio_stream, tokio_local_stream: pyo3_await_tokio with on_tokio;
    async_std_stream, async_std_local_stream: pyo3_await_async_std with on_async_std;
    smol_stream, smol_local_stream: pyo3_await_smol with on_smol;
}

mod peer {
    use pyo3_async_runtimes::tokio::{future_into_py, into_stream_v2};

    use super::*;

    /// What its users write: it has no conversion of streams.
    #[pyclass(frozen)]
    pub(super) struct PeerItems(Arc<Mutex<mpsc::Receiver<u64>>>);

    #[pymethods]
    impl PeerItems {
        fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
            slf
        }

        fn __anext__<'py>(&self, py: Python<'py>) -> Object<'py> {
            let receiver = Arc::clone(&self.0);
            future_into_py(py, async move {
                receiver.lock().await.recv().await.ok_or_else(|| PyStopAsyncIteration::new_err(()))
            })
        }
    }

    #[pyfunction]
    pub(super) fn items(count: u64) -> PeerItems {
        PeerItems(Arc::new(Mutex::new(source(count, on_tokio))))
    }

    #[pyfunction]
    pub(super) fn consume<'py>(py: Python<'py>, iterable: Bound<'py, PyAny>) -> Object<'py> {
        future_into_py(py, sum(into_stream_v2(iterable)?.map(Ok)))
    }
}

mod native {
    use super::*;

    /// What its users write: it has no conversion of streams either.
    #[pyclass(frozen)]
    pub(super) struct NativeItems(Mutex<mpsc::Receiver<u64>>);

    #[pymethods]
    impl NativeItems {
        fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
            slf
        }

        // A slot cannot be an `async fn`.
        fn __anext__<'py>(slf: &Bound<'py, Self>) -> Object<'py> {
            slf.call_method0(intern!(slf.py(), "receive"))
        }

        async fn receive(&self) -> PyResult<u64> {
            self.0.lock().await.recv().await.ok_or_else(|| PyStopAsyncIteration::new_err(()))
        }
    }

    #[pyfunction]
    pub(super) fn items(count: u64) -> NativeItems {
        NativeItems(Mutex::new(source(count, on_tokio)))
    }
}

pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    add_ours_to(parent)?;
    let native = parent.getattr("native")?.cast_into::<PyModule>()?;
    native.add_function(wrap_pyfunction!(native::items, &native)?)?;
    let peer = parent.getattr("peer")?.cast_into::<PyModule>()?;
    peer.add_function(wrap_pyfunction!(peer::items, &peer)?)?;
    peer.add_function(wrap_pyfunction!(peer::consume, &peer)?)
}
