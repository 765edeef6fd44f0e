//! What the documentation promises beside what the other cases need.

use std::{pin::pin, thread, time::Duration};

use futures::{
    channel::oneshot,
    executor::block_on,
    future::{Either, select},
};
use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter, on_loop};

use super::{
    clean_up::HOUR,
    way::{awaited, maker},
};
use crate::adapter::{self, TaskLocals};

#[pyo3_await::test(crate = adapter, timeout = "60s")]
#[should_panic(expected = "capacity")]
async fn a_channel_without_room_is_refused() {
    drop(adapter::channel::<usize>(0));
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
#[should_panic(expected = "the capacity of a stream's buffer is at least one item")]
async fn a_stream_without_room_is_refused() {
    let stream = Code::new(c"async def count():\n    yield 1")
        .and_then(|code| Python::attach(|py| adapter::into_stream(code.get(py, "count")?.call0()?)));
    drop(stream.expect("it is an asynchronous iterable").with_capacity(0));
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_thread_is_told_of_a_cancellation() -> PyResult<()> {
    let (started, cleaned_up) = (Counter::new(), Counter::new());
    let (starts, cleans_up) = (started.clone(), cleaned_up.clone());
    let future = awaited(maker(move |py| {
        adapter::into_coroutine(py, async move {
            let locals = Python::attach(TaskLocals::current)?;
            let (sender, told) = oneshot::channel();
            thread::spawn(move || {
                let mut cancelled = pin!(locals.cancelled(HOUR));
                starts.add();
                block_on(cancelled.as_mut());
                let _ = sender.send(());
            });
            told.await.expect("the thread sends");
            cleans_up.add();
            Ok(())
        })
    })?)?;
    cancel_when(future, &started).await;
    cleaned_up.reached(1).await;
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_thread_sees_the_context_of_locals() -> PyResult<()> {
    let code = Code::new(
        c"
import contextvars
variable = contextvars.ContextVar('variable', default=0)

async def set_and_await(make):
    variable.set(7)
    return await make()
",
    )?;
    let variable = Python::attach(|py| code.get(py, "variable").map(Bound::unbind))?;
    let make = maker(move |py| {
        adapter::into_coroutine(py, async move {
            let locals = Python::attach(TaskLocals::current)?;
            let (sender, seen) = oneshot::channel();
            thread::spawn(move || {
                let get = |py: Python<'_>| variable.call_method0(py, "get")?.extract::<i32>(py);
                sender.send(locals.attach(get))
            });
            seen.await.expect("the thread sends")
        })
    })?;
    let seen = code.future("set_and_await", (make,))?.await?;
    assert_eq!(Python::attach(|py| seen.extract::<i32>(py))?, 7);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_longest_time_to_clean_up_counts() -> PyResult<()> {
    for times in [[HOUR, Duration::ZERO], [Duration::ZERO, HOUR]] {
        let (started, told, opened, cleaned_up) = (Counter::new(), Counter::new(), Counter::new(), Counter::new());
        let (starts, tells, opens, cleans_up) = (started.clone(), told.clone(), opened.clone(), cleaned_up.clone());
        let future = awaited(maker(move |py| {
            adapter::into_coroutine(py, async move {
                let [first, second] = times.map(adapter::cancelled);
                let (first, second) = (first?, second?);
                starts.add();
                futures::join!(first, second);
                tells.add();
                opens.reached(1).await;
                cleans_up.add();
                Ok(())
            })
        })?)?;
        cancel_when(future, &started).await;
        told.reached(1).await;
        // The shorter one's time is up.
        for _ in 0..100 {
            on_loop(|_| Ok(())).await?;
        }
        opened.add();
        cleaned_up.reached(1).await;
    }
    Ok(())
}

/// Awaits a future until `started` counts one, and then no longer.
async fn cancel_when(future: adapter::PythonFuture, started: &Counter) {
    let waits = matches!(select(pin!(future), pin!(started.reached(1))).await, Either::Right(_));
    assert!(waits, "it waits to be cancelled");
}
