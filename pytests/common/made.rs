//! Awaitables that are made on the event loop's thread, by a function that Rust gives.

use std::{
    ffi::CStr,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    thread::{self, ThreadId},
};

use futures::{channel::oneshot, executor::block_on};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
};
use pyo3_await_pytests::{Code, Counter};

use crate::adapter::{self, RustPanic, TaskLocals, into_future_with, scope};

const CODE: &CStr = c"
import contextvars

variable = contextvars.ContextVar('variable', default='unset')

async def ready(value):
    return value

async def later(value):
    await asyncio.sleep(0)
    return value

async def look():
    return variable.get()
";

fn code() -> PyResult<Arc<Code>> {
    Code::new(CODE).map(Arc::new)
}

/// The thread of the event loop.
async fn thread_of_loop() -> PyResult<ThreadId> {
    let (sender, receiver) = oneshot::channel();
    let function = pyo3_await_pytests::once(move |_| {
        let _ = sender.send(thread::current().id());
        Ok(())
    })?;
    let call = Code::new(c"async def call(function):\n    function()\n")?;
    call.future("call", (function,))?.await?;
    Ok(receiver.await.expect("it was called"))
}

/// An argument of an exception that cannot be converted.
struct Unconvertible;

impl<'py> IntoPyObject<'py> for Unconvertible {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, _: Python<'py>) -> PyResult<Self::Output> {
        Err(PyTypeError::new_err("it cannot be converted"))
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_error_that_cannot_be_made_is_a_panic() -> PyResult<()> {
    let made = into_future_with(|_| Err(PyValueError::new_err(Unconvertible)))?;
    let error = made.await.expect_err("nothing was made");
    Python::attach(|py| assert!(error.is_instance_of::<RustPanic>(py), "{error}"));
    assert!(error.to_string().contains("Converting PyErr arguments failed"), "{error}");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_is_made_on_the_thread_of_the_loop() -> PyResult<()> {
    let code = code()?;
    for name in ["ready", "later"] {
        let (sender, receiver) = oneshot::channel();
        let code = Arc::clone(&code);
        let future = into_future_with(move |py| {
            let _ = sender.send(thread::current().id());
            code.call(py, name, (42,))
        })?;
        let value = future.await?;
        assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 42, "{name}");
        assert_eq!(receiver.await.expect("it was called"), thread_of_loop().await?, "{name}");
    }
    Ok(())
}

/// While Python is kept by the function, whoever waited for it to be free would not get on.
#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn whoever_makes_the_future_does_not_wait_for_python() -> PyResult<()> {
    let (code, polled) = (code()?, Counter::new());
    let signal = polled.clone();
    let (ours, theirs) = (Arc::clone(&code), Arc::clone(&code));
    let holding = into_future_with(move |py| {
        // It does not detach. A thread of its own polls another future, made in the same way, meanwhile.
        let locals = TaskLocals::current(py)?;
        let other = thread::spawn(move || {
            let mut future = locals.into_future_with(move |py| theirs.call(py, "ready", (1,)));
            let poll = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
            signal.add();
            future
        });
        other.join().expect("it does not panic").detach();
        ours.call(py, "ready", (42,))
    })?;
    let value = holding.await?;
    assert_eq!(polled.get(), 1);
    assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 42);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn function_and_awaitable_are_in_the_context_of_the_task() -> PyResult<()> {
    let code = code()?;
    let locals = Python::attach(|py| {
        let context = py.import("contextvars")?.call_method0("copy_context")?;
        let variable = code.get(py, "variable")?;
        context.call_method1("run", (variable.getattr("set")?, "of the task"))?;
        PyResult::Ok(TaskLocals::current(py)?.with_context(context))
    })?;
    let (sender, receiver) = oneshot::channel();
    let in_function = Arc::clone(&code);
    let future = locals.into_future_with(move |py| {
        let variable = in_function.get(py, "variable")?;
        let _ = sender.send(variable.call_method0("get")?.extract::<String>()?);
        variable.call_method1("set", ("of the function",))?;
        in_function.call(py, "look", ())
    });
    let seen = future.await?;
    assert_eq!(receiver.await.expect("it was called"), "of the task");
    assert_eq!(Python::attach(|py| seen.extract::<String>(py))?, "of the function");
    // Neither has changed the context itself.
    let again = Arc::clone(&code);
    let seen = locals.into_future_with(move |py| again.call(py, "look", ())).await?;
    assert_eq!(Python::attach(|py| seen.extract::<String>(py))?, "of the task");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_the_function_raises_is_the_result() -> PyResult<()> {
    let error = into_future_with(|_| Err(PyValueError::new_err("not made")))?.await.expect_err("it raises");
    Python::attach(|py| assert!(error.is_instance_of::<PyValueError>(py), "{error}"));

    let error = into_future_with(|py| Ok(py.None().into_bound(py)))?.await.expect_err("None is not awaitable");
    Python::attach(|py| {
        assert!(error.is_instance_of::<PyTypeError>(py), "{error}");
        assert!(error.to_string().contains("'NoneType' object can't be awaited"), "{error}");
    });

    let error = into_future_with(|_| panic!("in the function"))?.await.expect_err("it panics");
    Python::attach(|py| {
        assert!(error.is_instance_of::<RustPanic>(py), "{error}");
        assert!(error.to_string().contains("in the function"), "{error}");
    });
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_future_that_is_not_polled_calls_nothing() -> PyResult<()> {
    let (code, made) = (code()?, Counter::new());
    let make = |made: Counter| {
        let code = Arc::clone(&code);
        into_future_with(move |py| {
            made.add();
            code.call(py, "ready", (42,))
        })
    };
    drop(make(made.clone())?);
    // Whatever it had sent to the event loop would have come before this.
    make(Counter::new())?.await?;
    assert_eq!(made.get(), 0);

    make(made.clone())?.detach();
    made.reached(1).await;
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn without_an_event_loop_the_error_says_what_to_do() -> PyResult<()> {
    let (code, locals) = (code()?, Python::attach(TaskLocals::current)?);
    let make = move || into_future_with(move |py| code.call(py, "ready", (42,)));
    let (refused, value) = thread::spawn(move || {
        let refused = into_future_with(|py| Ok(py.None().into_bound(py))).map(drop);
        (refused, block_on(scope(locals, async { make()?.await })))
    })
    .join()
    .expect("it does not panic");
    assert_eq!(Python::attach(|py| value?.extract::<i32>(py))?, 42);
    let error = refused.expect_err("a thread of one's own has no event loop");
    Python::attach(|py| {
        assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}");
        assert!(error.to_string().contains("wrap the future in scope(locals, ...)"), "{error}");
    });
    Ok(())
}
