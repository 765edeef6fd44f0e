//! Futures that clean up when they are cancelled. What is written for a way is a row of the table in `ends`.

use std::{
    future::{self, Future},
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use futures::{
    executor::block_on,
    future::{Either, select},
};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};
use pyo3_await_pytests::{Code, Counter};

use super::{ends::drive, way::Way};
use crate::adapter::{self, TaskLocals, cancelled, scope};

/// More than any test has.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

const CANCEL: &std::ffi::CStr = c"
async def outcome(task):
    try:
        return repr(await task)
    except BaseException as error:
        return repr(error)

async def cancel(task, started):
    while not started.get():
        await asyncio.sleep(0)
    task.cancel()

async def cancel_once(make, started):
    task = asyncio.ensure_future(make())
    await cancel(task, started)
    return await outcome(task)

async def cancel_twice(make, started, told):
    task = asyncio.ensure_future(make())
    await cancel(task, started)
    await cancel(task, told)
    return await outcome(task)

# What is awaited hears of the first cancellation; the awaiter is still there when the gate is opened.
async def cancel_and_open(make, started, told, open):
    task = asyncio.ensure_future(make())
    await cancel(task, started)
    while not told.get():
        await asyncio.sleep(0)
    waits = not task.done()
    open()
    return waits, await outcome(task)
";

/// What is seen of a future that is cancelled.
#[derive(Clone, Default)]
struct Traces {
    started: Counter,
    told: Counter,
    opened: Counter,
    cleaned_up: Counter,
    dropped: Counter,
}

impl Traces {
    /// A future that is told of its cancellation, and then waits for what `opened` counts.
    fn future(&self, grace: Duration, result: PyResult<()>) -> impl Future<Output = PyResult<()>> + Send + 'static {
        let (traces, guard) = (self.clone(), self.dropped.guard());
        async move {
            let _guard = guard;
            // It is still there when the future cleans up, as it is in a `select`.
            let mut cancelled = pin!(cancelled(grace)?);
            traces.started.add();
            cancelled.as_mut().await;
            traces.told.add();
            traces.opened.reached(1).await;
            traces.cleaned_up.add();
            result
        }
    }

    /// How often it was told, had cleaned up and was dropped.
    fn counts(&self) -> (usize, usize, usize) {
        (self.told.get(), self.cleaned_up.get(), self.dropped.get())
    }
}

pub(super) fn the_awaiter_waits_for_the_clean_up(way: Way) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let traces = Traces::default();
    let make = way.maker(traces.future(HOUR, Ok(())))?;
    let (started, told) = (traces.started.clone(), traces.told.clone());
    let outcome: (bool, String) = drive(&code, "cancel_and_open", (make, started, told, traces.opened.clone()))?;
    assert_eq!(outcome, (true, "CancelledError()".to_owned()));
    assert_eq!(traces.counts(), (1, 1, 1));
    Ok(())
}

pub(super) fn an_error_of_the_clean_up_is_raised(way: Way) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let traces = Traces::default();
    traces.opened.add();
    let make = way.maker(traces.future(HOUR, Err(PyValueError::new_err("can't roll back"))))?;
    let outcome: String = drive(&code, "cancel_once", (make, traces.started.clone()))?;
    assert_eq!(outcome, "ValueError(\"can't roll back\")");
    assert_eq!(traces.counts(), (1, 1, 1));
    Ok(())
}

pub(super) fn it_is_dropped_when_its_time_is_up(way: Way) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    // On a machine that stalls the time may be up before the future is polled, and told.
    for grace in [50, 500, 5_000, 20_000].map(Duration::from_millis) {
        let traces = Traces::default();
        let make = way.maker(traces.future(grace, Ok(())))?;
        let begun = Instant::now();
        let outcome: String = drive(&code, "cancel_once", (make, traces.started.clone()))?;
        let elapsed = begun.elapsed();
        assert_eq!(outcome, "CancelledError()");
        // uvloop has timers of whole milliseconds, which may be one of them early.
        assert!(elapsed + Duration::from_millis(1) >= grace, "{elapsed:?}");
        if traces.told.get() > 0 {
            assert_eq!(traces.counts(), (1, 0, 1));
            return Ok(());
        }
    }
    panic!("it was never told");
}

pub(super) fn it_is_dropped_when_it_is_cancelled_once_more(way: Way) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let traces = Traces::default();
    let make = way.maker(traces.future(HOUR, Ok(())))?;
    let (started, told) = (traces.started.clone(), traces.told.clone());
    let outcome: String = drive(&code, "cancel_twice", (make, started, told))?;
    assert_eq!(outcome, "CancelledError()");
    assert_eq!(traces.counts(), (1, 0, 1));
    Ok(())
}

pub(super) fn one_with_another_context_is_told_too(way: Way) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let traces = Traces::default();
    traces.opened.add();
    let future = traces.future(HOUR, Err(PyValueError::new_err("cleaned up")));
    let make = way.maker(async move {
        let locals = Python::attach(|py| {
            let context = py.import("contextvars")?.call_method0("Context")?;
            PyResult::Ok(TaskLocals::current(py)?.with_context(context))
        })?;
        scope(locals, future).await
    })?;
    let outcome: String = drive(&code, "cancel_once", (make, traces.started.clone()))?;
    assert_eq!(outcome, "ValueError('cleaned up')");
    assert_eq!(traces.counts(), (1, 1, 1));
    Ok(())
}

pub(super) fn whoever_takes_the_request_back_is_dropped_at_once(way: Way) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let (started, dropped) = (Counter::new(), Counter::new());
    let (signal, guard) = (started.clone(), dropped.guard());
    let make = way.maker(async move {
        let _guard = guard;
        drop(cancelled(HOUR)?);
        signal.add();
        future::pending::<PyResult<()>>().await
    })?;
    let outcome: String = drive(&code, "cancel_once", (make, started.clone()))?;
    assert_eq!((outcome.as_str(), dropped.get()), ("CancelledError()", 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn work_that_ends_first_is_not_disturbed() -> PyResult<()> {
    for way in Way::ALL {
        let value = way.awaited(async {
            let work = pin!(async { 42 });
            match select(work, pin!(cancelled(HOUR)?)).await {
                Either::Left((value, _)) => Ok(value),
                Either::Right(_) => panic!("nobody has cancelled it"),
            }
        })?;
        let value = value.await?;
        assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 42, "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_task_that_inherits_is_told_too() -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let traces = Traces::default();
    let helper = traces.clone();
    let make = Way::Coroutine.maker(async move {
        let ended = Counter::new();
        let signal = ended.clone();
        adapter::spawn(async move {
            let result = helper.future(HOUR, Ok(())).await;
            if result.is_ok() {
                signal.add();
            }
        })?;
        ended.reached(1).await;
        Ok(())
    })?;
    traces.opened.add();
    let outcome = code.future("cancel_once", (make, traces.started.clone()))?.await?;
    let outcome: String = Python::attach(|py| outcome.extract(py))?;
    assert_eq!(outcome, "CancelledError()");
    assert_eq!(traces.counts(), (1, 1, 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn there_is_nothing_to_be_told_outside_of_a_task() {
    let ask = || cancelled(HOUR).map(drop);
    let error = thread::spawn(ask).join().expect("it does not panic").expect_err("there is no task");
    Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
    assert!(error.to_string().contains("no Rust task"), "{error}");
    let error = block_on(async { cancelled(HOUR).map(drop) }).expect_err("there is no task");
    assert!(error.to_string().contains("no Rust task"), "{error}");
}
