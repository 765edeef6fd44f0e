//! Python cancels it, at every moment there is.

use std::{
    ffi::CStr,
    future::{self, Future},
    sync::mpsc,
    task::Poll,
};

use pyo3::{exceptions::PyValueError, prelude::*};
use pyo3_await_pytests::{Code, Counter, function, held::Held, once, turn};

use super::drive;
use crate::{
    adapter::{RuntimeExt as _, current_runtime},
    common::way::{Way, maker},
};

/// Whoever cancels is told that it will be so, is told so once, and finds it so.
const CANCEL: &CStr = c"
async def before_the_start(make):
    task = asyncio.ensure_future(make())
    assert task.cancel()
    return await outcome(task)

async def before_the_poll(make, release):
    future = asyncio.ensure_future(make())
    await asyncio.sleep(0)
    assert future.cancel()
    # It is dropped on its runtime, which has not looked at it.
    for _ in range(5):
        await asyncio.sleep(0)
        assert not future.done()
    release()
    return await outcome(future)

async def while_it_completes(make, started, unblock):
    future = asyncio.ensure_future(make())
    while not started.get():
        await asyncio.sleep(0)
    assert future.cancel()
    unblock()
    return await outcome(future)

async def by_itself(make, set_cancel):
    future = asyncio.ensure_future(make())
    set_cancel(future.cancel)
    return await outcome(future)

async def before_the_delivery(make, complete):
    future = asyncio.ensure_future(make())
    await asyncio.sleep(0)
    # The loop does not look until it has completed.
    complete()
    assert not future.done()
    assert future.cancel()
    return await outcome(future)

async def after_delivery(make):
    future = asyncio.ensure_future(make())
    value = await future
    assert not future.cancel() and not future.cancelled()
    return repr(value), repr(await future)

async def outcome(future):
    try:
        return repr(await future), future.cancelled()
    except asyncio.CancelledError as error:
        return type(error).__name__, future.cancelled()
    except Exception as error:
        return repr(error), future.cancelled()
";

/// What becomes of the await of a future that is cancelled, and whether it says that it was.
type Outcome = (String, bool);

fn cancelled() -> Outcome {
    ("CancelledError".to_owned(), true)
}

/// Polls and drops.
#[derive(Clone, Default)]
struct Traces {
    polled: Counter,
    dropped: Counter,
}

impl Traces {
    fn never_ends(&self) -> impl Future<Output = PyResult<()>> + Send + 'static {
        let (polled, guard) = (self.polled.clone(), self.dropped.guard());
        future::poll_fn(move |_| {
            let _guard = &guard;
            polled.add();
            Poll::Pending
        })
    }

    fn counts(&self) -> (usize, usize) {
        (self.polled.get(), self.dropped.get())
    }
}

pub(super) fn before_the_start(way: Way) -> PyResult<()> {
    let (code, traces) = (Code::new(CANCEL)?, Traces::default());
    let outcome: Outcome = drive(&code, "before_the_start", (way.maker(traces.never_ends())?,))?;
    assert_eq!((outcome, traces.counts()), (cancelled(), (0, 1)));
    Ok(())
}

pub(super) fn before_the_runtime_polls_it(way: Way) -> PyResult<()> {
    let (code, traces) = (Code::new(CANCEL)?, Traces::default());
    let (runtime, future) = (Held::new(current_runtime()?), traces.never_ends());
    let held = runtime.clone();
    let make = maker(move |py| match way {
        Way::Coroutine => held.into_coroutine(py, future),
        Way::EagerCoroutine => held.into_eager_coroutine(py, future),
        _ => held.into_asyncio_future(py, future),
    })?;
    let release = once(move |_| {
        runtime.release();
        Ok(())
    })?;
    let outcome: Outcome = drive(&code, "before_the_poll", (make, release))?;
    let in_place = usize::from(way == Way::EagerCoroutine);
    assert_eq!((outcome, traces.counts()), (cancelled(), (in_place, 1)));
    Ok(())
}

pub(super) fn while_it_completes(way: Way) -> PyResult<()> {
    if way == Way::LocalCoroutine {
        return by_itself_while_it_completes(way);
    }
    let (code, started, dropped) = (Code::new(CANCEL)?, Counter::new(), Counter::new());
    let (signal, guard) = (started.clone(), dropped.guard());
    let (sender, blocked) = mpsc::channel::<()>();
    let make = way.maker(async move {
        let _guard = guard;
        // The first poll may be the one in place, where nobody could cancel it.
        turn().await;
        signal.add();
        // It is cancelled in the middle of its last poll.
        let _ = blocked.recv();
        Ok(())
    })?;
    let unblock = once(move |_| {
        drop(sender);
        Ok(())
    })?;
    let outcome: Outcome = drive(&code, "while_it_completes", (make, started, unblock))?;
    assert_eq!((outcome, dropped.get()), (cancelled(), 1));
    Ok(())
}

/// On the event loop's thread, only what the future itself calls can come in the middle of a poll.
fn by_itself_while_it_completes(way: Way) -> PyResult<()> {
    let (code, dropped) = (Code::new(CANCEL)?, Counter::new());
    let guard = dropped.guard();
    let (sender, receiver) = mpsc::channel::<Py<PyAny>>();
    let make = way.maker(async move {
        let _guard = guard;
        turn().await;
        let cancel = receiver.recv().expect("it was sent before the second poll");
        Python::attach(|py| cancel.call0(py)).map(drop)
    })?;
    let set_cancel = function(move |_, arguments| {
        sender.send(arguments.get_item(0)?.unbind()).expect("the future receives it");
        Ok(())
    })?;
    let outcome: Outcome = drive(&code, "by_itself", (make, set_cancel))?;
    assert_eq!((outcome, dropped.get()), (cancelled(), 1));
    Ok(())
}

/// A future that ends as soon as it may, and the function that lets it, and sees that it has.
fn completes(way: Way, result: PyResult<()>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let (opened, dropped) = (Counter::new(), Counter::new());
    let (gate, guard) = (opened.clone(), dropped.guard());
    let make = way.maker(async move {
        let _guard = guard;
        gate.reached(1).await;
        result
    })?;
    let complete = once(move |py| {
        opened.add();
        py.detach(|| dropped.wait(1));
        Ok(())
    })?;
    Ok((make, complete))
}

pub(super) fn after_completion_and_before_delivery(way: Way) -> PyResult<()> {
    let outcome: Outcome = drive(&Code::new(CANCEL)?, "before_the_delivery", completes(way, Ok(()))?)?;
    assert_eq!(outcome, cancelled());
    Ok(())
}

pub(super) fn an_error_on_its_way_gives_way(way: Way) -> PyResult<()> {
    let error = PyValueError::new_err("it failed");
    let outcome: Outcome = drive(&Code::new(CANCEL)?, "before_the_delivery", completes(way, Err(error))?)?;
    assert_eq!(outcome, cancelled());
    Ok(())
}

pub(super) fn after_delivery(way: Way) -> PyResult<()> {
    let make = way.maker(async {
        turn().await;
        Ok(1)
    })?;
    let results: (String, String) = drive(&Code::new(CANCEL)?, "after_delivery", (make,))?;
    assert_eq!(results, ("1".to_owned(), "1".to_owned()));
    Ok(())
}
