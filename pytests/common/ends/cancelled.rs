//! Python cancels it, in every way there is: it is dropped where it ran, and only then does anybody hear of it.

use std::{
    ffi::CStr,
    future,
    sync::{Arc, Mutex, mpsc},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter, Subject as _, turn};

use super::drive;
use crate::{
    Subject,
    adapter::RuntimeExt as _,
    common::way::{Way, maker},
};

/// Each function cancels what waits for the Rust future, and gives what that has seen of it: the arguments of the
/// `CancelledError`, and how many futures had been dropped by then.
const CANCEL: &CStr = c"
import sys

async def wait(make, dropped, seen):
    try:
        await make()
    except asyncio.CancelledError as error:
        seen.append((error.args, dropped.get()))
        raise

async def until(started):
    while not started.get():
        await asyncio.sleep(0)

async def cancel(make, started, dropped, message):
    seen = []
    task = asyncio.ensure_future(wait(make, dropped, seen))
    await until(started)
    assert dropped.get() == 0
    assert task.cancel(*message)
    await asyncio.wait([task])
    assert task.cancelled()
    return seen

async def cancel_itself(make, started, dropped, message):
    future = asyncio.ensure_future(make())
    await until(started)
    assert future.cancel(*message)
    # Its end is confirmed by the loop.
    assert not future.done()
    try:
        await future
    except asyncio.CancelledError as error:
        assert future.cancelled() and not future.cancel()
        # A task of Python 3.10 raises another one, in the context of the first.
        while error.__context__ is not None:
            error = error.__context__
        return [(error.args, dropped.get())]

async def timeout(make, started, dropped, message):
    # Python 3.10 has no such thing.
    if sys.version_info < (3, 11):
        return await wait_for(make, started, dropped, message)
    seen, loop = [], asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as timeout:
            async def expire():
                await until(started)
                timeout.reschedule(loop.time())
            expiring = asyncio.ensure_future(expire())
            await wait(make, dropped, seen)
    except TimeoutError:
        await expiring
        return seen

async def wait_for(make, started, dropped, message):
    seen = []
    try:
        await asyncio.wait_for(wait(make, dropped, seen), 0.01)
    except asyncio.TimeoutError:
        return seen

async def fail_beside(make, started, dropped, message):
    seen = []
    async def fail():
        await until(started)
        raise ValueError('a sibling failed')
    try:
        if sys.version_info < (3, 11):
            tasks = [asyncio.ensure_future(one) for one in (wait(make, dropped, seen), fail())]
            _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)
            await tasks[1]
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait(make, dropped, seen))
                group.create_task(fail())
    except Exception as error:
        assert [str(error) for error in getattr(error, 'exceptions', [error])] == ['a sibling failed']
        return seen

async def shield(make, started, dropped, message):
    seen, outside = [], []
    inner = asyncio.ensure_future(wait(make, dropped, seen))
    async def shielded():
        await asyncio.shield(inner)
    outer = asyncio.ensure_future(wait(shielded, dropped, outside))
    await until(started)
    outer.cancel('outside')
    await asyncio.wait([outer])
    assert outside == [(('outside',), 0)], outside
    assert not inner.done()
    inner.cancel(*message)
    await asyncio.wait([inner])
    return seen
";

/// Remembers where it is dropped: in which thread, and whether that is a worker's.
struct Place(Arc<Mutex<Vec<(ThreadId, bool)>>>);

impl Drop for Place {
    fn drop(&mut self) {
        let place = (thread::current().id(), Subject::on_worker());
        self.0.lock().expect("nothing panics under the lock").push(place);
    }
}

/// Has one of Python's functions cancel a future that never ends, for which `message` has to survive.
fn check(way: Way, function: &str, message: &[&str]) -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    let (started, dropped) = (Counter::new(), Counter::new());
    let places = Arc::new(Mutex::new(Vec::new()));
    let (signal, place, guard) = (started.clone(), Place(Arc::clone(&places)), dropped.guard());
    let make = way.maker(async move {
        let _guards = (place, guard);
        signal.add();
        future::pending::<PyResult<()>>().await
    })?;
    let begun = Instant::now();
    let seen: Vec<(Vec<String>, usize)> = drive(&code, function, (make, started, dropped.clone(), message))?;
    let expected = |dropped| [(message.iter().map(ToString::to_string).collect(), dropped)];
    if begun.elapsed() >= Duration::from_secs(1) && seen == expected(0) {
        // Python waits for the drop for a second, and no longer: the machine has stalled, and nothing was tried.
        return check(way, function, message);
    }
    assert_eq!(seen, expected(1));
    assert_eq!(dropped.get(), 1);
    let places = places.lock().expect("nothing panics under the lock");
    match way {
        // The cell's own thread has the event loop.
        Way::LocalCoroutine => assert_eq!(*places, [(thread::current().id(), false)]),
        _ => assert!(matches!(places[..], [(_, true)]), "not dropped on the runtime"),
    }
    Ok(())
}

pub(super) fn by_task_cancel(way: Way) -> PyResult<()> {
    check(way, "cancel", &[])
}

pub(super) fn by_task_cancel_with_a_message(way: Way) -> PyResult<()> {
    check(way, "cancel", &["enough"])
}

/// A future has its own `cancel`; for a coroutine it is its task's.
pub(super) fn by_its_own_cancel(way: Way) -> PyResult<()> {
    check(way, "cancel_itself", &["why"])
}

pub(super) fn by_timeout(way: Way) -> PyResult<()> {
    check(way, "timeout", &[])
}

pub(super) fn by_wait_for(way: Way) -> PyResult<()> {
    check(way, "wait_for", &[])
}

pub(super) fn by_the_failure_of_a_sibling(way: Way) -> PyResult<()> {
    check(way, "fail_beside", &[])
}

pub(super) fn not_through_a_shield(way: Way) -> PyResult<()> {
    check(way, "shield", &["inside"])
}

/// On a runtime of its own, so that nobody else is kept waiting nor in the way.
pub(super) fn in_a_poll_that_does_not_return(way: Way) -> PyResult<()> {
    let code = Code::new(
        c"
async def cancel(make, started):
    async def await_made():
        await make()
    task = asyncio.ensure_future(await_made())
    while not started.get():
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled(), loop.time() - begun
",
    )?;
    let runtime = Subject::own("blocked");
    let (started, dropped) = (Counter::new(), Counter::new());
    let (signal, guard) = (started.clone(), dropped.guard());
    let (unblock, blocked) = mpsc::channel::<()>();
    let future = async move {
        let _guard = guard;
        // The first poll may be the one in place.
        turn().await;
        signal.add();
        // It is over when the sender is dropped.
        let _ = blocked.recv();
        future::pending::<PyResult<()>>().await
    };
    let make = maker(move |py| match way {
        Way::Coroutine => runtime.into_coroutine(py, future),
        Way::EagerCoroutine => runtime.into_eager_coroutine(py, future),
        _ => runtime.into_asyncio_future(py, future),
    })?;
    let (cancelled, seconds): (bool, f64) = drive(&code, "cancel", (make, started))?;
    assert!(cancelled);
    // The bound is 1 s. The upper limit leaves time for a very busy machine: 4 s were too few once.
    assert!((0.99..30.0).contains(&seconds), "{seconds} s");
    assert_eq!(dropped.get(), 0, "the poll has not returned");
    drop(unblock);
    dropped.wait(1);
    assert_eq!(dropped.get(), 1);
    Ok(())
}
