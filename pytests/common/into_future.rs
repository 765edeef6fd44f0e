//! Rust awaits Python.

use std::{
    ffi::CStr,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures::channel::oneshot;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};
use pyo3_await_pytests::{Code, Counter};

use crate::adapter::{self, into_future, spawn};

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn every_kind_of_awaitable() -> PyResult<()> {
    let code = Code::new(
        c"
import types

async def coroutine(value):
    await asyncio.sleep(0)
    return value

@types.coroutine
def generator(value):
    yield
    return value

class Awaitable:
    def __init__(self, value):
        self.value = value
    def __await__(self):
        return coroutine(self.value).__await__()

def future(value):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, value)
    return future

def task(value):
    return asyncio.get_running_loop().create_task(coroutine(value))

# A coroutine would be awaited for its result, so it is wrapped.
async def make(kind, value):
    return [kind(value)]
",
    )?;
    for kind in ["coroutine", "generator", "Awaitable", "future", "task"] {
        let make = Python::attach(|py| code.get(py, kind).map(Bound::unbind))?;
        let wrapped = code.future("make", (make, 42))?.await?;
        let future = Python::attach(|py| into_future(wrapped.bind(py).get_item(0)?))?;
        let value = future.await?;
        assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 42, "{kind}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_is_not_awaitable_is_refused() -> PyResult<()> {
    let code = Code::new(
        c"
class Stone:
    pass

def function():
    pass

async def generator():
    yield

stone, generator = Stone(), generator()
Stone.__module__ = 'quarry'
",
    )?;
    for (name, expected) in [
        ("stone", "'quarry.Stone' object can't be awaited"),
        ("function", "'function' object can't be awaited"),
        ("generator", "'async_generator' object can't be awaited"),
    ] {
        Python::attach(|py| {
            let object = code.get(py, name)?;
            let before = references(&object)?;
            let error = into_future(object.clone()).expect_err(name);
            assert!(error.is_instance_of::<PyTypeError>(py), "{error}");
            let message = error.value(py).to_string();
            assert!(message.starts_with(expected), "{message}");
            assert!(message.contains("a coroutine, a future, a task or an object with __await__"), "{message}");
            drop(error);
            assert_eq!(references(&object)?, before, "{name} is held on to");
            PyResult::Ok(())
        })?;
    }
    Ok(())
}

fn references(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    object.py().import("sys")?.call_method1("getrefcount", (object,))?.extract()
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_await_method_that_gives_no_iterator_is_an_error() -> PyResult<()> {
    let code = Code::new(
        c"
class Broken:
    def __await__(self):
        return 42
",
    )?;
    let error = code.future("Broken", ())?.await.expect_err("42 is not an iterator");
    Python::attach(|py| {
        assert!(error.is_instance_of::<PyTypeError>(py), "{error}");
        assert!(error.to_string().contains("int"), "{error}");
    });
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_exception_is_the_one_that_was_raised() -> PyResult<()> {
    let code = Code::new(
        c"
async def fail(error, cause):
    await asyncio.sleep(0)
    raise error from cause
",
    )?;
    let (raised, cause) = Python::attach(|py| {
        let value = |error: PyErr| error.into_value(py).into_any();
        (value(PyValueError::new_err("the error")), value(PyTypeError::new_err("the cause")))
    });
    let error = code.future("fail", (&raised, &cause))?.await.expect_err("it is raised");
    Python::attach(|py| {
        assert!(error.value(py).is(&raised), "{error}");
        assert!(error.cause(py).is_some_and(|error| error.value(py).is(&cause)), "{error}");
        let traceback = error.traceback(py).expect("it has been raised").format()?;
        assert!(traceback.contains("in fail"), "{traceback}");
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_cancellation_in_python_is_an_error() -> PyResult<()> {
    let code = Code::new(
        c"
async def cancel_itself():
    asyncio.current_task().cancel('enough')
    await asyncio.sleep(3600)
",
    )?;
    let error = code.future("cancel_itself", ())?.await.expect_err("it is cancelled");
    Python::attach(|py| {
        let class = py.import("asyncio")?.getattr("CancelledError")?;
        assert!(error.matches(py, class)?, "{error}");
        let error = error.value(py).clone().into_any();
        // A task of Python 3.10 raises another one, in the context of the first.
        let has_message = py.version_info() >= (3, 11);
        let error = if has_message { error } else { error.getattr("__context__")? };
        assert_eq!(error.to_string(), "enough");
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_panic_that_comes_through_python_is_an_error() -> PyResult<()> {
    let code = Code::new(
        c"
async def call(function):
    await asyncio.sleep(0)
    function()
",
    )?;
    // PyO3 makes an exception of a panic in a function that Python calls.
    let function = pyo3_await_pytests::once(|_| panics())?;
    let error = code.future("call", (function,))?.await.expect_err("it panics");
    assert!(error.to_string().contains("called by Python"), "{error}");
    Ok(())
}

fn panics() -> PyResult<()> {
    panic!("called by Python")
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn nothing_happens_before_the_first_poll() -> PyResult<()> {
    let code = Code::new(
        c"
async def start(started):
    started()
",
    )?;
    let started = Counter::new();
    let future = code.future("start", (started.clone(),))?;
    // Whatever it had sent to the event loop would have come before this.
    code.future("start", (Counter::new(),))?.await?;
    assert_eq!(started.get(), 0);
    future.await?;
    assert_eq!(started.get(), 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_poll_after_the_end_panics() -> PyResult<()> {
    let mut future = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0,))?))?;
    (&mut future).await?;
    let poll = || Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
    let panic = catch_unwind(AssertUnwindSafe(poll)).expect_err("it was ready");
    let message = panic.downcast_ref::<&str>().copied();
    assert_eq!(message, Some("a PythonFuture was polled after it was ready"));
    Ok(())
}

/// A waker that counts.
struct Counting(Counter);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}

fn waker() -> (Waker, Counter) {
    let counter = Counter::new();
    (Waker::from(Arc::new(Counting(counter.clone()))), counter)
}

const WAIT: &CStr = c"
gate = Gate()

async def wait(started):
    started()
    await gate.wait()
    return 42
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_last_waker_is_the_one_that_is_woken() -> PyResult<()> {
    let code = Code::new(WAIT)?;
    let started = Counter::new();
    let mut future = code.future("wait", (started.clone(),))?;
    let (first, first_woken) = waker();
    let (last, last_woken) = waker();

    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&first)).is_pending());
    started.reached(1).await;
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&last)).is_pending());
    code.run(c"gate.open()")?;
    last_woken.reached(1).await;

    let Poll::Ready(value) = Pin::new(&mut future).poll(&mut Context::from_waker(&first)) else {
        panic!("it has woken its task")
    };
    assert_eq!(Python::attach(|py| value?.extract::<i32>(py))?, 42);
    assert_eq!((first_woken.get(), last_woken.get()), (0, 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_future_moves_to_another_task() -> PyResult<()> {
    let code = Code::new(WAIT)?;
    let started = Counter::new();
    let mut future = code.future("wait", (started.clone(),))?;
    let (first, first_woken) = waker();
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&first)).is_pending());
    started.reached(1).await;

    let (sender, receiver) = oneshot::channel();
    let polled = Counter::new();
    let signal = polled.clone();
    spawn(async move {
        let polls = std::future::poll_fn(|cx| {
            let poll = Pin::new(&mut future).poll(cx);
            signal.add();
            poll
        });
        let _ = sender.send(polls.await);
    })?;
    polled.reached(1).await;
    code.run(c"gate.open()")?;
    let value = receiver.await.expect("the task ends by sending")?;
    assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 42);
    assert_eq!(first_woken.get(), 0);
    Ok(())
}
