//! Streams and channels.

use std::task::Poll;

use futures_lite::{
    Stream, StreamExt,
    future::yield_now,
    stream::{iter, poll_fn, unfold},
};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyString};
use pyo3_await_tokio::{
    ChannelClosed, Receiver, Sender, into_async_iterator, into_coroutine, into_local_async_iterator, into_stream,
};

use crate::{
    ends::{Bomb, wake_and_call},
    gate::Gate,
};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ChannelClosed", module.py().get_type::<ChannelClosed>())?;
    module.add_function(wrap_pyfunction!(numbers, module)?)?;
    module.add_function(wrap_pyfunction!(at_gate, module)?)?;
    module.add_function(wrap_pyfunction!(called_while_streamed, module)?)?;
    module.add_function(wrap_pyfunction!(of_functions, module)?)?;
    module.add_function(wrap_pyfunction!(total, module)?)?;
    module.add_function(wrap_pyfunction!(take, module)?)?;
    module.add_function(wrap_pyfunction!(channel, module)?)?;
    module.add_function(wrap_pyfunction!(channel_of_bombs, module)?)
}

/// Makes an asynchronous iterator whose stream is polled in the named place.
fn iterator<'py, S, T>(py: Python<'py>, place: &str, stream: S) -> PyResult<Bound<'py, PyAny>>
where
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    match place {
        "runtime" => into_async_iterator(py, stream),
        "local" => into_local_async_iterator(py, stream),
        _ => Err(PyValueError::new_err(format!("no such place: {place}"))),
    }
}

/// The numbers below `count`, some of which have to be waited for.
#[pyfunction]
fn numbers<'py>(py: Python<'py>, place: &str, count: usize, ready: bool) -> PyResult<Bound<'py, PyAny>> {
    let numbers = iter(0..count).then(move |number| async move {
        if !ready && number % 3 == 0 {
            yield_now().await;
        }
        Ok(number)
    });
    iterator(py, place, numbers)
}

/// Numbers without an end, each of which waits for the gate. The gate counts the stream's drop.
#[pyfunction]
fn at_gate<'py>(py: Python<'py>, place: &str, gate: &Gate) -> PyResult<Bound<'py, PyAny>> {
    let numbers = unfold((0, gate.guard()), |(number, guard)| async move {
        guard.opened().await;
        Some((Ok(number), (number + 1, guard)))
    });
    iterator(py, place, numbers)
}

/// Calls a function in each poll but the last, after it has woken itself; so many polls it takes until it yields `()`.
#[pyfunction]
fn called_while_streamed<'py>(
    py: Python<'py>,
    place: &str,
    function: Py<PyAny>,
    polls: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let mut polled = 0;
    let stream = poll_fn(move |cx| {
        polled += 1;
        if polled >= polls {
            return Poll::Ready(Some(Ok(())));
        }
        wake_and_call(cx, &function).map(Some)
    });
    iterator(py, place, stream)
}

/// What becomes what a function returns when it is converted.
pub(crate) struct Called(pub(crate) Py<PyAny>);

impl<'py> IntoPyObject<'py> for Called {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        self.0.bind(py).call0()
    }
}

/// What functions return, each called when its item is converted.
#[pyfunction]
fn of_functions<'py>(py: Python<'py>, place: &str, functions: Vec<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    iterator(py, place, iter(functions).map(|function| Ok(Called(function))))
}

/// The sum of what an asynchronous iterable yields.
#[pyfunction]
fn total<'py>(py: Python<'py>, iterable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut stream = into_stream(iterable)?;
    into_coroutine(py, async move {
        let mut total = 0;
        while let Some(item) = stream.next().await {
            let item = item?;
            total += Python::attach(|py| item.extract::<i64>(py))?;
        }
        Ok(total)
    })
}

/// The first items of an asynchronous iterable, whose stream is dropped then.
#[pyfunction]
fn take<'py>(
    py: Python<'py>,
    iterable: Bound<'py, PyAny>,
    count: usize,
    capacity: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let mut stream = into_stream(iterable)?.with_capacity(capacity);
    into_coroutine(py, async move {
        let mut items = Vec::new();
        for _ in 0..count {
            match stream.next().await {
                Some(item) => items.push(item?),
                None => break,
            }
        }
        Ok(items)
    })
}

/// Both ends of a channel for any objects.
#[pyfunction]
fn channel(capacity: usize) -> (Sender<Py<PyAny>>, Receiver<Py<PyAny>>) {
    pyo3_await_tokio::channel(capacity)
}

/// A string becomes one; some do not.
impl<'py> FromPyObject<'_, 'py> for Bomb {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        assert!(object.cast::<PyString>()? != "panic", "the conversion panicked");
        Ok(Self)
    }
}

/// Both ends of a channel for items whose drop panics.
#[pyfunction]
fn channel_of_bombs(capacity: usize) -> (Sender<Bomb>, Receiver<Bomb>) {
    pyo3_await_tokio::channel(capacity)
}
