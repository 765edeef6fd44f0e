//! Rust loses interest in what it awaits.

use std::{ffi::CStr, pin::pin, thread};

use futures::future::{Either, select};
use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter};

use crate::adapter::{self, PythonFuture, into_future};

/// Polls a future until something else has happened, which is before its end.
async fn poll_until(future: PythonFuture, happened: &Counter) -> PythonFuture {
    match select(future, pin!(happened.reached(1))).await {
        Either::Left((result, _)) => panic!("it has ended: {result:?}"),
        Either::Right(((), future)) => future,
    }
}

const WAIT: &CStr = c"
gate = Gate()

async def wait(started, cancelled, ended):
    started()
    try:
        await gate.wait()
    except asyncio.CancelledError:
        cancelled()
        raise
    finally:
        ended()
";

/// What is known of one call of `wait`.
#[derive(Default)]
struct Wait {
    started: Counter,
    cancelled: Counter,
    ended: Counter,
}

impl Wait {
    fn future(&self, code: &Code) -> PyResult<PythonFuture> {
        code.future("wait", (self.started.clone(), self.cancelled.clone(), self.ended.clone()))
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_may_be_dropped_by_any_thread() -> PyResult<()> {
    let (code, wait) = (Code::new(WAIT)?, Wait::default());
    let future = poll_until(wait.future(&code)?, &wait.started).await;
    thread::spawn(move || drop(future)).join().expect("it does not panic");
    wait.ended.reached(1).await;
    assert_eq!(wait.cancelled.get(), 1);
    Ok(())
}

/// An awaitable that says when it is awaited and when it is gone.
const FLEETING: &CStr = c"
class Fleeting:
    def __init__(self, awaited, released):
        self.awaited, self.released = awaited, released
    def __await__(self):
        self.awaited()
        yield
    def __del__(self):
        self.released()
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn one_that_was_not_polled_is_only_released() -> PyResult<()> {
    let (code, awaited, released) = (Code::new(FLEETING)?, Counter::new(), Counter::new());
    let future = code.future("Fleeting", (awaited.clone(), released.clone()))?;
    drop(future);
    // The reference is given up by whoever attaches next.
    Python::attach(|_| ());
    released.reached(1).await;
    assert_eq!(awaited.get(), 0);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn one_that_was_not_polled_cancels_nothing() -> PyResult<()> {
    let code = Code::new(
        c"
gate = Gate()

async def wait():
    await gate.wait()
    return 'waited'

# A coroutine would be awaited for its result, so the task is wrapped.
async def start():
    return [asyncio.ensure_future(wait())]
",
    )?;
    let wrapped = code.future("start", ())?.await?;
    let task = || Python::attach(|py| into_future(wrapped.bind(py).get_item(0)?));
    drop(task()?);
    // What the drop might have sent to the event loop comes before this.
    let task = task()?;
    code.run(c"gate.open()")?;
    let value = task.await?;
    assert_eq!(Python::attach(|py| value.extract::<String>(py))?, "waited");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn one_that_was_polled_is_released_too() -> PyResult<()> {
    let (code, awaited, released) = (Code::new(FLEETING)?, Counter::new(), Counter::new());
    code.future("Fleeting", (awaited.clone(), released.clone()))?.await?;
    released.reached(1).await;
    assert_eq!(awaited.get(), 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_detached_future_starts_if_it_has_not() -> PyResult<()> {
    let (code, wait) = (Code::new(WAIT)?, Wait::default());
    wait.future(&code)?.detach();
    wait.started.reached(1).await;
    code.run(c"gate.open()")?;
    wait.ended.reached(1).await;
    assert_eq!(wait.cancelled.get(), 0);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn nothing_is_cancelled_after_the_end() -> PyResult<()> {
    let (code, wait) = (Code::new(WAIT)?, Wait::default());
    let future = poll_until(wait.future(&code)?, &wait.started).await;
    code.run(c"gate.open()")?;
    // It ends without anybody polling it.
    wait.ended.reached(1).await;
    drop(future);
    // What the drop might have sent to the event loop comes before this.
    Wait::default().future(&code)?.await?;
    assert_eq!(wait.cancelled.get(), 0);
    Ok(())
}
