//! Streams in both directions: the same source and the same consumer for each contender.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use ::futures::{Stream, StreamExt};
use pyo3::{exceptions::PyStopAsyncIteration, prelude::*};
use tokio::sync::{Mutex, mpsc};

use crate::{submodule, tokio};

/// How many items are in the channel that feeds a stream.
const CHANNEL: usize = 1024;

/// How many items are taken out of a stream at a time, if there are as many.
const CHUNK: usize = 64;

/// Items that a task sends, 0 and up.
fn source(count: u64) -> mpsc::Receiver<u64> {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio().spawn(async move {
        for number in 0..count {
            if sender.send(number).await.is_err() {
                return;
            }
        }
    });
    receiver
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

mod ours {
    use pyo3_await_tokio::{
        into_async_iterator, into_async_iterator_with_capacity, into_coroutine, into_local_async_iterator, into_stream,
    };

    use super::*;

    #[pyfunction]
    #[pyo3(signature = (count, capacity=None))]
    pub(super) fn items(py: Python<'_>, count: u64, capacity: Option<usize>) -> Object<'_> {
        match capacity {
            Some(capacity) => into_async_iterator_with_capacity(py, Items(source(count)), capacity),
            None => into_async_iterator(py, Items(source(count))),
        }
    }

    #[pyfunction]
    #[pyo3(signature = (iterable, capacity=None))]
    pub(super) fn consume<'py>(py: Python<'py>, iterable: Bound<'py, PyAny>, capacity: Option<usize>) -> Object<'py> {
        let mut stream = into_stream(iterable)?;
        if let Some(capacity) = capacity {
            stream = stream.with_capacity(capacity);
        }
        into_coroutine(py, sum(stream))
    }

    #[pyfunction]
    pub(super) fn local_items(py: Python<'_>, count: u64) -> Object<'_> {
        into_local_async_iterator(py, Items(source(count)))
    }
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
        PeerItems(Arc::new(Mutex::new(source(count))))
    }

    #[pyfunction]
    pub(super) fn consume<'py>(py: Python<'py>, iterable: Bound<'py, PyAny>) -> Object<'py> {
        future_into_py(py, sum(into_stream_v2(iterable)?.map(Ok)))
    }
}

pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    submodule(parent, "tokio_stream", |module| {
        module.add_function(wrap_pyfunction!(ours::items, module)?)?;
        module.add_function(wrap_pyfunction!(ours::consume, module)?)
    })?;
    submodule(parent, "tokio_local_stream", |module| {
        module.add_function(wrap_pyfunction!(ours::local_items, module)?)?;
        module.add("items", module.getattr("local_items")?)
    })?;
    let peer = parent.getattr("peer")?.cast_into::<PyModule>()?;
    peer.add_function(wrap_pyfunction!(peer::items, &peer)?)?;
    peer.add_function(wrap_pyfunction!(peer::consume, &peer)?)
}
