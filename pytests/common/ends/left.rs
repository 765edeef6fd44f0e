//! Python, or its own runtime, loses it.

use std::{
    ffi::CStr,
    future::{self, Future},
    sync::{Mutex, PoisonError},
    task::Poll,
};

use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter, mortal::Mortal, turn};

use super::drive;
use crate::{
    adapter::{RuntimeExt as _, current_runtime},
    common::way::{Way, maker},
};

/// Each function ends a coroutine half-way, and waits until its future has been dropped; so does Python's own.
const END: &CStr = c"
import gc, warnings

async def native():
    await asyncio.get_running_loop().create_future()

def outcome(function, *arguments):
    try:
        return 'returned', function(*arguments)
    except BaseException as error:
        return 'raised', type(error), str(error)

async def drops(dropped):
    while not dropped.get():
        await asyncio.sleep(0)

async def start(make, polled):
    coroutine = make()
    coroutine.send(None)
    while not polled.get():
        await asyncio.sleep(0)
    return coroutine

async def throw(make, polled, dropped):
    coroutine, reference = await start(make, polled), native()
    reference.send(None)
    error = ValueError('thrown')
    try:
        coroutine.throw(error)
    except ValueError as caught:
        assert caught is error
    else:
        raise AssertionError('nothing was raised')
    outcome(reference.throw, error)
    await drops(dropped)
    assert after(coroutine) == after(reference)

async def close(make, polled, dropped):
    coroutine, reference = await start(make, polled), native()
    reference.send(None)
    assert outcome(coroutine.close) == outcome(reference.close) == ('returned', None)
    await drops(dropped)
    assert after(coroutine) == after(reference)

# Whatever one does with a coroutine that is over.
def after(coroutine):
    return [
        outcome(coroutine.send, None), outcome(coroutine.throw, KeyError()), outcome(coroutine.close),
        coroutine.cr_await, coroutine.cr_running,
    ]

async def collect(make, polled, dropped):
    # One that a Python coroutine awaits, and one that is in a cycle of garbage.
    async def outer():
        await make()
    coroutine = await start(outer, polled)
    cycle = [coroutine]
    cycle.append(cycle)
    del coroutine, cycle
    assert dropped.get() == 0
    gc.collect()
    await drops(dropped)

async def forget(make, polled, dropped):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        make()
    assert dropped.get() == 1
    return [str(warning.message) for warning in caught]

async def forget_a_future(make, polled, open, ended):
    make()
    gc.collect()
    while not polled.get():
        await asyncio.sleep(0)
    gc.collect()
    assert not ended.get()
    open()
    # A loop that is closed has its futures dropped.
    while not ended.get():
        await asyncio.sleep(0)

async def result(make):
    await make()
";

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

fn check(way: Way, function: &str) -> PyResult<()> {
    let (code, traces) = (Code::new(END)?, Traces::default());
    let make = way.maker(traces.future())?;
    drive::<_, Py<PyAny>>(&code, function, (make, traces.polled.clone(), traces.dropped.clone()))?;
    assert_eq!(traces.dropped.get(), 1);
    Ok(())
}

pub(super) fn thrown_into(way: Way) -> PyResult<()> {
    check(way, "throw")
}

pub(super) fn closed(way: Way) -> PyResult<()> {
    check(way, "close")
}

pub(super) fn collected_half_way(way: Way) -> PyResult<()> {
    check(way, "collect")
}

pub(super) fn never_awaited(way: Way) -> PyResult<()> {
    // What catches warnings is the process's, and puts back what it found.
    static CATCHING: Mutex<()> = Mutex::new(());
    let _alone = CATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let (code, traces) = (Code::new(END)?, Traces::default());
    let make = way.maker(traces.future())?;
    let warnings: Vec<String> = drive(&code, "forget", (make, traces.polled.clone(), traces.dropped.clone()))?;
    // Other cells may warn at the same time.
    assert!(warnings.iter().any(|warning| warning.ends_with("was never awaited")), "{warnings:?}");
    assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 1));
    Ok(())
}

pub(super) fn dropped_by_python_it_runs_on(way: Way) -> PyResult<()> {
    let (polled, opened, ended) = (Counter::new(), Counter::new(), Counter::new());
    let (signal, gate, end) = (polled.clone(), opened.clone(), ended.clone());
    let make = way.maker(async move {
        signal.add();
        gate.reached(1).await;
        end.add();
        Ok(())
    })?;
    drive::<_, Py<PyAny>>(&Code::new(END)?, "forget_a_future", (make, polled, opened, ended))?;
    Ok(())
}

pub(super) fn dropped_by_its_runtime(way: Way) -> PyResult<()> {
    let runtime = Mortal::new(current_runtime()?);
    let dropped = Counter::new();
    let guard = dropped.guard();
    let mortal = runtime.clone();
    let future = async move {
        let _guard = guard;
        // The first poll may be the one in place.
        turn().await;
        mortal.shut_down();
        future::pending::<PyResult<()>>().await
    };
    let make = maker(move |py| match way {
        Way::Coroutine => runtime.into_coroutine(py, future),
        Way::EagerCoroutine => runtime.into_eager_coroutine(py, future),
        _ => runtime.into_asyncio_future(py, future),
    })?;
    let error = drive::<_, Py<PyAny>>(&Code::new(END)?, "result", (make,)).expect_err("the future is dropped");
    let expected = "RuntimeError: the Rust runtime dropped the future 'dropped_by_its_runtime' before it had ended: \
                    was the runtime shut down";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert_eq!(dropped.get(), 1);
    Ok(())
}
