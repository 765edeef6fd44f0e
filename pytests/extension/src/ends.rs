//! Futures that end in every way there is.

use std::{
    future::{self, Future},
    task::{Context, Poll, Waker},
    time::Duration,
};

use pyo3::{
    exceptions::{PyStopIteration, PyTypeError, PyValueError},
    prelude::*,
    types::PyInt,
};

use crate::{gate::Gate, run, streams::Called};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(value, module)?)?;
    module.add_function(wrap_pyfunction!(converted, module)?)?;
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(fail, module)?)?;
    module.add_function(wrap_pyfunction!(panic, module)?)?;
    module.add_function(wrap_pyfunction!(panic_when_dropped, module)?)?;
    module.add_function(wrap_pyfunction!(end_with_bomb, module)?)?;
    module.add_function(wrap_pyfunction!(unconvertible, module)?)?;
    module.add_function(wrap_pyfunction!(raises_what_cannot_be_made, module)?)?;
    module.add_function(wrap_pyfunction!(of_a_trait, module)?)?;
    module.add_function(wrap_pyfunction!(called_while_polled, module)?)?;
    module.add_function(wrap_pyfunction!(wakes_when_dropped, module)?)
}

/// Suspends once, if asked to.
async fn suspend(later: bool) {
    if later {
        tokio::task::yield_now().await;
    }
}

#[pyfunction]
fn value<'py>(py: Python<'py>, way: &str, value: Py<PyAny>, later: bool) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        suspend(later).await;
        Ok(value)
    })
}

/// An awaitable that gives what `function` returns, which is called when the output is converted.
#[pyfunction]
fn converted<'py>(py: Python<'py>, way: &str, function: Py<PyAny>, later: bool) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        suspend(later).await;
        Ok(Called(function))
    })
}

#[pyfunction]
fn sleep<'py>(py: Python<'py>, way: &str, seconds: f64) -> PyResult<Bound<'py, PyAny>> {
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
    run(py, way, async move {
        tokio::time::sleep(time).await;
        Ok(())
    })
}

#[pyfunction]
fn fail<'py>(py: Python<'py>, way: &str, error: Bound<'py, PyAny>, later: bool) -> PyResult<Bound<'py, PyAny>> {
    let error = PyErr::from_value(error);
    run(py, way, async move {
        suspend(later).await;
        Err::<(), _>(error)
    })
}

#[pyfunction]
fn panic<'py>(py: Python<'py>, way: &str, kind: String, later: bool) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        suspend(later).await;
        match &*kind {
            "str" => panic!("a message"),
            "string" => panic!("a {}", "message"),
            "bomb" => std::panic::panic_any(Bomb),
            _ => std::panic::panic_any(42),
        }
        #[allow(unreachable_code, reason = "it says what the future's type is")]
        Ok(())
    })
}

/// Panics when it is dropped.
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the drop panicked");
    }
}

/// Waits for `gate`; the future's drop panics, if it did not end before.
#[pyfunction]
fn panic_when_dropped<'py>(py: Python<'py>, way: &str, gate: &Gate) -> PyResult<Bound<'py, PyAny>> {
    let (bomb, opened) = (Bomb, gate.opened());
    run(py, way, async move {
        opened.await;
        std::mem::forget(bomb);
        Ok(())
    })
}

/// As a value it is converted, unless nobody wants it.
impl<'py> IntoPyObject<'py> for Bomb {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        std::mem::forget(self);
        Ok(0_i32.into_pyobject(py)?)
    }
}

/// Ends with a value whose drop panics, when the gate opens.
#[pyfunction]
fn end_with_bomb<'py>(py: Python<'py>, way: &str, gate: &Gate) -> PyResult<Bound<'py, PyAny>> {
    let opened = gate.opened();
    run(py, way, async move {
        opened.await;
        Ok(Bomb)
    })
}

/// A value whose conversion to Python goes wrong.
struct Unconvertible {
    kind: String,
}

impl<'py> IntoPyObject<'py> for Unconvertible {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = PyErr;

    fn into_pyobject(self, _: Python<'py>) -> PyResult<Self::Output> {
        Err(match &*self.kind {
            "fails" => PyTypeError::new_err("the conversion failed"),
            "panics" => panic!("the conversion panicked"),
            "stops" => PyStopIteration::new_err("the conversion failed"),
            "cannot say why" => unmade(),
            kind => panic!("no such kind: {kind}"),
        })
    }
}

/// An exception that is made when somebody looks at it; and that panics, since its argument cannot be converted.
fn unmade() -> PyErr {
    PyTypeError::new_err(Unconvertible { kind: "fails".to_owned() })
}

/// Returns what cannot be converted: at once, or when it has been polled twice.
#[pyfunction]
fn unconvertible<'py>(py: Python<'py>, way: &str, kind: String, later: bool) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        if later {
            tokio::task::yield_now().await;
        }
        Ok(Unconvertible { kind })
    })
}

/// Raises what cannot be made.
#[pyfunction]
fn raises_what_cannot_be_made<'py>(py: Python<'py>, way: &str, later: bool) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        if later {
            tokio::task::yield_now().await;
        }
        Err::<(), _>(unmade())
    })
}

trait Work {
    fn work(&self) -> impl Future<Output = PyResult<()>> + Send + 'static;
}

impl Work for Vec<u8> {
    #[allow(clippy::manual_async_fn, reason = "an async function would borrow `self`")]
    fn work(&self) -> impl Future<Output = PyResult<()>> + Send + 'static {
        async { Ok(()) }
    }
}

/// A future that is written in a method of a trait, of a generic type.
#[pyfunction]
fn of_a_trait<'py>(py: Python<'py>, way: &str) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, Vec::new().work())
}

/// Calls a function in its first poll, after it has woken itself; it is ready in the next.
#[pyfunction]
fn called_while_polled<'py>(py: Python<'py>, way: &str, function: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut function = Some(function);
    let future = future::poll_fn(move |cx| {
        let Some(function) = function.take() else { return Poll::Ready(Ok(())) };
        wake_and_call(cx, &function)
    });
    run(py, way, future)
}

/// A poll that wakes itself and then calls a function. It is ready when that raises.
pub(crate) fn wake_and_call<T>(cx: &Context<'_>, function: &Py<PyAny>) -> Poll<PyResult<T>> {
    cx.waker().wake_by_ref();
    match Python::attach(|py| function.call0(py)) {
        Ok(_) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// Waits for ever, and wakes itself when it is dropped, as the last sender of a channel does with its receiver.
#[pyfunction]
fn wakes_when_dropped<'py>(py: Python<'py>, way: &str) -> PyResult<Bound<'py, PyAny>> {
    struct Wakes(Option<Waker>);

    impl Drop for Wakes {
        fn drop(&mut self) {
            self.0.take().into_iter().for_each(Waker::wake);
        }
    }

    let mut wakes = Wakes(None);
    let future = future::poll_fn(move |cx| {
        let Wakes(waker) = &mut wakes;
        *waker = Some(cx.waker().clone());
        Poll::<PyResult<()>>::Pending
    });
    run(py, way, future)
}
