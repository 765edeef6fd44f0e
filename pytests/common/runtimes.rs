//! Runtimes that end early, that are kept busy, and that are several.

use std::{
    future,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use futures::channel::oneshot;
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_example_runtimes::thread_per_task::ThreadPerTask;
use pyo3_await_pytests::{Code, Counter, Subject as _, function, mortal::Mortal, on_loop, turn};

use super::{
    event_loops::new_event_loop,
    way::{Way, awaited, maker},
};
use crate::{
    Subject,
    adapter::{self, Runtime, RuntimeExt as _, current_runtime, into_coroutine},
};

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_future_that_the_runtime_drops_is_an_error() -> PyResult<()> {
    for way in Way::SPAWNING {
        let runtime = Mortal::new(current_runtime()?);
        let (started, dropped) = (Counter::new(), Counter::new());
        let (signal, guard) = (started.clone(), dropped.guard());
        let future = async move {
            let _guard = guard;
            // The first poll may be the one in place.
            turn().await;
            signal.add();
            future::pending::<PyResult<()>>().await
        };
        let mortal = runtime.clone();
        let make = maker(move |py| match way {
            Way::Coroutine => mortal.into_coroutine(py, future),
            Way::EagerCoroutine => mortal.into_eager_coroutine(py, future),
            Way::AsyncioFuture | Way::LocalCoroutine => mortal.into_asyncio_future(py, future),
        })?;
        let (sender, outcome) = oneshot::channel();
        let future = awaited(make)?;
        adapter::spawn(async move { drop(sender.send(future.await)) })?;
        started.reached(1).await;
        runtime.shut_down();
        let error = outcome.await.expect("the task ends by sending").expect_err("the future is dropped");
        Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{way:?}: {error}"));
        let message = error.to_string();
        let expected = "the Rust runtime dropped the future 'a_future_that_the_runtime_drops_is_an_error' before it \
                        had ended: was the runtime shut down, or left behind by os.fork()?";
        assert!(message.contains(expected), "{way:?}: {message}");
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

/// On an event loop and a runtime of its own, so that nobody else is kept waiting nor in the way.
#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_blocked_poll_delays_a_cancellation_within_a_bound() -> PyResult<()> {
    let code = Code::new(
        c"
async def cancel(make, started):
    task = asyncio.ensure_future(await_made(make))
    while not started.get():
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled(), loop.time() - begun

async def await_made(make):
    await make()
",
    )?;
    for way in [Way::Coroutine, Way::AsyncioFuture] {
        let runtime = Subject::own("blocked");
        let (started, dropped) = (Counter::new(), Counter::new());
        let (signal, guard) = (started.clone(), dropped.guard());
        let (unblock, blocked) = mpsc::channel::<()>();
        let future = async move {
            let _guard = guard;
            signal.add();
            // It is over when the sender is dropped.
            let _ = blocked.recv();
            future::pending::<PyResult<()>>().await
        };
        let make = maker(move |py| match way {
            Way::Coroutine => runtime.into_coroutine(py, future),
            _ => runtime.into_asyncio_future(py, future),
        })?;
        let (cancelled, seconds): (bool, f64) = Python::attach(|py| {
            let event_loop = new_event_loop(py)?;
            let cancel = code.call(py, "cancel", (make, started))?;
            let outcome = event_loop.call_method1("run_until_complete", (cancel,))?.extract();
            event_loop.call_method0("close")?;
            outcome
        })?;
        assert!(cancelled, "{way:?}");
        // The bound is 1 s; the upper limit leaves time for a busy machine.
        assert!((0.99..4.0).contains(&seconds), "{way:?}: {seconds} s");
        assert_eq!(dropped.get(), 0, "{way:?}: the poll has not returned");
        drop(unblock);
        dropped.wait(1);
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

/// The name of the thread that polls it, whichever poll that is.
async fn name_of_worker() -> PyResult<Option<String>> {
    turn().await;
    Ok(thread::current().name().map(str::to_owned))
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn several_serve_one_loop() -> PyResult<()> {
    const TURNS: usize = 20;

    let code = Code::new(
        c"
async def await_all(makes, turns):
    return [tuple(await asyncio.gather(*[make() for make in makes])) for _ in range(turns)]
",
    )?;
    fn make<R: Runtime>(runtime: R) -> PyResult<Py<PyAny>> {
        function(move |py, _| runtime.into_coroutine(py, name_of_worker()).map(Bound::unbind))
    }

    let makes = vec![
        function(|py, _| into_coroutine(py, async { Ok(Subject::on_worker()) }).map(Bound::unbind))?,
        make(Subject::own("own-1"))?,
        make(Subject::own("own-2"))?,
        make(ThreadPerTask("another-kind"))?,
    ];
    let names = code.future("await_all", (makes, TURNS))?.await?;
    let names: Vec<(bool, String, String, String)> = Python::attach(|py| names.extract(py))?;
    let expected = (true, "own-1".to_owned(), "own-2".to_owned(), "another-kind".to_owned());
    assert_eq!(names, vec![expected; TURNS]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_loop_is_free_while_a_runtime_is_busy() -> PyResult<()> {
    let runtime = Subject::own("busy");
    let (started, dropped) = (Counter::new(), Counter::new());
    let (signal, guard) = (started.clone(), dropped.guard());
    let (unblock, blocked) = mpsc::channel::<()>();
    let make = maker(move |py| {
        runtime.into_coroutine(py, async move {
            let _guard = guard;
            signal.add();
            let _ = blocked.recv();
            Ok(1)
        })
    })?;
    let (sender, outcome) = oneshot::channel();
    let future = awaited(make)?;
    adapter::spawn(async move { drop(sender.send(future.await)) })?;
    started.reached(1).await;
    let begun = Instant::now();
    for _ in 0..100 {
        on_loop(|_| Ok(())).await?;
    }
    assert_eq!(dropped.get(), 0);
    assert!(begun.elapsed() < Duration::from_secs(30));
    drop(unblock);
    let value = outcome.await.expect("the task ends by sending")?;
    assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 1);
    Ok(())
}
