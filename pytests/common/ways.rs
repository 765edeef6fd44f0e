//! Python awaits Rust: every way, and every way to end.

use std::{
    future::{self, Future},
    task::Poll,
};

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyInt,
};
use pyo3_await_pytests::{Code, Counter, on_loop, turn};

use super::way::Way;
use crate::adapter::{self, RustPanic};

/// Has to wait, or not.
async fn wait(later: bool) {
    if later {
        turn().await;
    }
}

/// Each way, with futures that are ready at once and futures that wait.
fn each() -> impl Iterator<Item = (Way, bool)> {
    Way::ALL.into_iter().flat_map(|way| [(way, false), (way, true)])
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_value() -> PyResult<()> {
    for (way, later) in each() {
        let dropped = Counter::new();
        let guard = dropped.guard();
        let value = way.awaited(async move {
            wait(later).await;
            drop(guard);
            Ok("value".to_owned())
        })?;
        let value = value.await?;
        assert_eq!(Python::attach(|py| value.extract::<String>(py))?, "value", "{way:?}");
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_error_is_the_same_object() -> PyResult<()> {
    for (way, later) in each() {
        let dropped = Counter::new();
        let guard = dropped.guard();
        let raised = PyValueError::new_err("the error");
        let object = Python::attach(|py| raised.value(py).clone().unbind());
        let error = way.awaited(async move {
            let _guard = guard;
            wait(later).await;
            Err::<(), _>(raised)
        })?;
        let error = error.await.expect_err("it is raised");
        Python::attach(|py| assert!(error.value(py).is(&object), "{way:?}: {error}"));
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_panic_is_an_exception() -> PyResult<()> {
    for (way, later) in each() {
        let dropped = Counter::new();
        let guard = dropped.guard();
        let error = way.awaited(async move {
            let _guard = guard;
            wait(later).await;
            panic_with("panicked")
        })?;
        let error = error.await.expect_err("it panics");
        let message = Python::attach(|py| {
            assert!(error.is_instance_of::<RustPanic>(py), "{way:?}: {error}");
            error.value(py).to_string()
        });
        assert!(message.starts_with("it panicked") && message.contains("ways.rs"), "{way:?}: {message}");
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

fn panic_with(what: &str) -> PyResult<()> {
    panic!("it {what}")
}

/// A value whose conversion to Python fails.
struct Unconvertible;

impl<'py> IntoPyObject<'py> for Unconvertible {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = PyErr;

    fn into_pyobject(self, _: Python<'py>) -> PyResult<Self::Output> {
        Err(PyTypeError::new_err("the conversion failed"))
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_conversion_that_fails_is_an_error() -> PyResult<()> {
    for (way, later) in each() {
        let error = way.awaited(async move {
            wait(later).await;
            Ok(Unconvertible)
        })?;
        let error = error.await.expect_err("it can't be converted");
        Python::attach(|py| assert!(error.is_instance_of::<PyTypeError>(py), "{way:?}: {error}"));
        assert_eq!(error.to_string(), "TypeError: the conversion failed");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_cancelled_future_is_dropped_before_python_hears_of_it() -> PyResult<()> {
    let code = Code::new(
        c"
async def cancel(make, started, dropped):
    async def wait():
        try:
            await make()
        except asyncio.CancelledError as error:
            return str(error), dropped.get()
    task = asyncio.ensure_future(wait())
    while not started.get():
        await asyncio.sleep(0)
    before = dropped.get()
    task.cancel('enough')
    return before, await task
",
    )?;
    for way in Way::ALL {
        let (started, dropped) = (Counter::new(), Counter::new());
        let (signal, guard) = (started.clone(), dropped.guard());
        let make = way.maker(async move {
            let _guard = guard;
            signal.add();
            future::pending::<PyResult<()>>().await
        })?;
        let outcome = code.future("cancel", (make, started.clone(), dropped.clone()))?.await?;
        let outcome: (usize, (String, usize)) = Python::attach(|py| outcome.extract(py))?;
        assert_eq!(outcome, (0, ("enough".to_owned(), 1)), "{way:?}");
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

/// Polls and drops of a future, which never ends.
#[derive(Clone, Default)]
struct Traces {
    polled: Counter,
    dropped: Counter,
}

impl Traces {
    fn future(&self) -> impl Future<Output = PyResult<()>> + Send + 'static {
        let (polled, guard) = (self.polled.clone(), self.dropped.guard());
        future::poll_fn(move |_| {
            let _guard = &guard;
            polled.add();
            Poll::Pending
        })
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_coroutine_is_lazy() -> PyResult<()> {
    for way in [Way::Coroutine, Way::EagerCoroutine, Way::LocalCoroutine] {
        let traces = Traces::default();
        let future = traces.future();
        let coroutine = on_loop(move |py| way.convert(py, future).map(Bound::unbind)).await?;
        // Whatever it had sent to the event loop would have come before this.
        on_loop(|_| Ok(())).await?;
        assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 0), "{way:?}");
        on_loop(move |py| coroutine.call_method0(py, "close").map(drop)).await?;
        assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 1), "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_closed_coroutine_drops_its_future() -> PyResult<()> {
    let code = Code::new(
        c"
async def close(make, polled):
    coroutine = make()
    coroutine.send(None)
    while not polled.get():
        await asyncio.sleep(0)
    coroutine.close()
",
    )?;
    for way in [Way::Coroutine, Way::EagerCoroutine, Way::LocalCoroutine] {
        let traces = Traces::default();
        code.future("close", (way.maker(traces.future())?, traces.polled.clone()))?.await?;
        traces.dropped.reached(1).await;
        assert_eq!(traces.dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_asyncio_future_starts_now_and_runs_on() -> PyResult<()> {
    let (opened, ended) = (Counter::new(), Counter::new());
    let (gate, guard) = (opened.clone(), ended.guard());
    let started = Counter::new();
    let signal = started.clone();
    // Nobody awaits it, nor holds on to it.
    on_loop(move |py| {
        let future = async move {
            let _guard = guard;
            signal.add();
            gate.reached(1).await;
            Ok(())
        };
        Way::AsyncioFuture.convert(py, future).map(drop)
    })
    .await?;
    started.reached(1).await;
    Python::attach(|py| py.import("gc")?.call_method0("collect").map(drop))?;
    assert_eq!(ended.get(), 0);
    opened.add();
    ended.reached(1).await;
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_asyncio_future_needs_a_running_loop() -> PyResult<()> {
    let traces = Traces::default();
    let error = Python::attach(|py| Way::AsyncioFuture.convert(py, traces.future()).map(drop));
    let error = error.expect_err("no event loop runs in this thread");
    assert!(error.to_string().contains("no running event loop"), "{error}");
    assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 1));
    Ok(())
}
