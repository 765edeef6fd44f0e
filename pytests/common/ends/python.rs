//! It awaits Python: it loses interest, or Python ends as Rust has no word for.

use std::{
    ffi::CStr,
    pin::pin,
    sync::{Arc, mpsc},
};

use futures::future::{Either, select};
use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter, function};

use super::drive;
use crate::{
    adapter::{PythonFuture, into_future},
    common::{event_loops::new_event_loop, way::Way},
};

const PYTHON: &CStr = c"
import gc

events, gate = [], Gate()

async def wait(started):
    started()
    try:
        await gate.wait()
        events.append('ended')
    except asyncio.CancelledError:
        events.append('cancelled')
        raise

async def run(make, opens):
    await make()
    if opens:
        gate.open()
    while not events:
        await asyncio.sleep(0)
    return events

async def share(make, started, give, shielded):
    task = asyncio.ensure_future(wait(started))
    give(asyncio.shield(task) if shielded else task)
    await make()
    # What the drop has sent to the loop is seen before this is over.
    for _ in range(5):
        await asyncio.sleep(0)
    gate.open()
    await asyncio.wait([task])
    return events

async def fail(error):
    await asyncio.sleep(0)
    raise error

async def result(make):
    return await make()

def interrupt(loop, coroutine, kind):
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    task = loop.create_task(coroutine)
    try:
        loop.run_until_complete(task)
    except kind as error:
        assert str(error) == 'stop'
    else:
        raise AssertionError('the loop has not stopped')
    # It may be run again, and whoever waits goes on.
    result = loop.run_until_complete(task)
    loop.close()
    gc.collect()
    assert not reports, reports
    return result
";

/// Awaits Python until that has started; then drops the future, or detaches it.
async fn leave(future: PythonFuture, started: Counter, detach: bool) -> PyResult<()> {
    let future = match select(future, pin!(started.reached(1))).await {
        Either::Left((result, _)) => panic!("it has ended: {result:?}"),
        Either::Right(((), future)) => future,
    };
    if detach {
        future.detach();
    } else {
        drop(future);
    }
    Ok(())
}

/// What becomes of a Python task whose Rust future is let go; `detach`ed, it is let go on.
fn events_of_one(way: Way, detach: bool) -> PyResult<Vec<String>> {
    let (code, started) = (Arc::new(Code::new(PYTHON)?), Counter::new());
    let callee = Arc::clone(&code);
    let make = way.maker(async move {
        let future = callee.future("wait", (started.clone(),))?;
        leave(future, started, detach).await
    })?;
    drive(&code, "run", (make, detach))
}

pub(super) fn a_dropped_python_future_cancels_its_task(way: Way) -> PyResult<()> {
    assert_eq!(events_of_one(way, false)?, ["cancelled"]);
    Ok(())
}

pub(super) fn a_detached_one_runs_on(way: Way) -> PyResult<()> {
    assert_eq!(events_of_one(way, true)?, ["ended"]);
    Ok(())
}

/// The same for a task that Python has made, and waits for too.
fn events_of_shared(way: Way, shielded: bool) -> PyResult<Vec<String>> {
    let (code, started) = (Code::new(PYTHON)?, Counter::new());
    let (sender, receiver) = mpsc::channel::<Py<PyAny>>();
    let signal = started.clone();
    let make = way.maker(async move {
        let awaitable = receiver.recv().expect("it was sent before");
        let future = Python::attach(|py| into_future(awaitable.into_bound(py)))?;
        leave(future, signal, false).await
    })?;
    let give = function(move |_, arguments| {
        sender.send(arguments.get_item(0)?.unbind()).expect("the future receives it");
        Ok(())
    })?;
    drive(&code, "share", (make, started, give, shielded))
}

pub(super) fn a_shared_task_is_cancelled_for_all(way: Way) -> PyResult<()> {
    assert_eq!(events_of_shared(way, false)?, ["cancelled"]);
    Ok(())
}

pub(super) fn a_shared_task_is_not_cancelled_through_a_shield(way: Way) -> PyResult<()> {
    assert_eq!(events_of_shared(way, true)?, ["ended"]);
    Ok(())
}

/// Awaits Python that raises an exception; gives the name of its class as Rust sees it, and the exception.
fn raises(way: Way, code: &Arc<Code>, class: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    let callee = Arc::clone(code);
    let error = Python::attach(|py| class.call1(py, ("stop",)))?;
    way.maker(async move {
        let raised = Python::attach(|py| error.clone_ref(py));
        let seen = callee.future("fail", (raised,))?.await.expect_err("it is raised");
        Python::attach(|py| {
            let name = seen.get_type(py).name()?.to_string();
            Ok((name, seen.value(py).is(&error)))
        })
    })
}

pub(super) fn cancelled_error_is_an_error_in_rust(way: Way) -> PyResult<()> {
    let code = Arc::new(Code::new(PYTHON)?);
    let class = Python::attach(|py| py.import("asyncio")?.getattr("CancelledError").map(Bound::unbind))?;
    let (name, _): (String, bool) = drive(&code, "result", (raises(way, &code, &class)?,))?;
    assert_eq!(name, "CancelledError");
    Ok(())
}

fn stops_the_loop(way: Way, kind: &str) -> PyResult<()> {
    let code = Arc::new(Code::new(PYTHON)?);
    let class = Python::attach(|py| py.import("builtins")?.getattr(kind).map(Bound::unbind))?;
    let make = raises(way, &code, &class)?;
    let seen: (String, bool) = Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        let coroutine = code.call(py, "result", (make,))?;
        code.call(py, "interrupt", (event_loop, coroutine, class))?.extract()
    })?;
    assert_eq!(seen, (kind.to_owned(), true));
    Ok(())
}

pub(super) fn keyboard_interrupt_is_an_error_and_stops_the_loop(way: Way) -> PyResult<()> {
    stops_the_loop(way, "KeyboardInterrupt")
}

pub(super) fn system_exit_is_an_error_and_stops_the_loop(way: Way) -> PyResult<()> {
    stops_the_loop(way, "SystemExit")
}
