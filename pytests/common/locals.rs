//! The event loop and the context that a task belongs to.

use std::{future, panic::AssertUnwindSafe, pin::pin, thread};

use futures::{FutureExt as _, channel::oneshot, executor::block_on, join, poll};
use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyDict, PyType},
};
use pyo3_await_pytests::{Code, Counter};

use super::way::{Way, maker};
use crate::adapter::{self, Runtime as _, TaskLocals, current_runtime, into_async_iterator, into_future, scope, spawn};

/// Awaits `asyncio.sleep(0, value)`.
async fn python(value: i32) -> PyResult<i32> {
    let sleep = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0, value))?))?;
    let value = sleep.await?;
    Python::attach(|py| value.extract(py))
}

fn current() -> PyResult<TaskLocals> {
    Python::attach(TaskLocals::current)
}

/// Locals of the same event loop, and of no other use than to be told from others.
fn others() -> PyResult<TaskLocals> {
    Python::attach(|py| {
        let context = py.import("contextvars")?.call_method0("Context")?;
        Ok(TaskLocals::current(py)?.with_context(context))
    })
}

/// Whether these are the locals of the calling task.
fn are_current(locals: &TaskLocals) -> bool {
    Python::attach(|py| TaskLocals::current(py).is_ok_and(|current| current.context(py).is(locals.context(py))))
}

/// Says, when it is dropped, whether its locals are those of the calling task.
struct Looks(TaskLocals, Option<oneshot::Sender<bool>>);

impl Looks {
    fn new(locals: TaskLocals) -> (Self, oneshot::Receiver<bool>) {
        let (sender, receiver) = oneshot::channel();
        (Self(locals, Some(sender)), receiver)
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        let seen = self.1.take().expect("it is dropped once");
        let _ = seen.send(are_current(&self.0));
    }
}

/// Runs a future as a task of the runtime that has no locals but those that are given to it.
async fn in_bare_task<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> PyResult<T> {
    let (sender, receiver) = oneshot::channel();
    current_runtime()?.spawn(future.map(|output| drop(sender.send(output))));
    Ok(receiver.await.expect("the task ends by sending"))
}

fn assert_names_the_way_out(error: &PyErr) {
    Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
    let message = error.to_string();
    for part in ["no event loop", "TaskLocals::current(py)", "scope(locals, ...)"] {
        assert!(message.contains(part), "{message}");
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_scope_serves_any_thread() -> PyResult<()> {
    let (locals, (sender, receiver)) = (current()?, oneshot::channel());
    thread::spawn(move || sender.send(block_on(scope(locals, python(1)))));
    assert_eq!(receiver.await.expect("the thread ends by sending")?, 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn locals_serve_any_thread_by_themselves() -> PyResult<()> {
    let (locals, (sender, receiver)) = (current()?, oneshot::channel());
    thread::spawn(move || {
        let future = Python::attach(|py| {
            let sleep = py.import("asyncio")?.call_method1("sleep", (0, 1))?;
            locals.into_future(sleep)
        });
        sender.send(future.and_then(block_on))
    });
    let value = receiver.await.expect("the thread ends by sending")?;
    assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_scope_serves_a_task_of_the_runtime() -> PyResult<()> {
    assert_eq!(in_bare_task(scope(current()?, python(1))).await??, 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_spawned_task_inherits() -> PyResult<()> {
    let (locals, (sender, receiver)) = (current()?, oneshot::channel());
    spawn(async move {
        // The task that it spawns inherits from it.
        let inner = spawn(async move {
            let inherits = are_current(&locals);
            let _ = sender.send((inherits, python(1).await));
        });
        inner.expect("the runtime runs");
    })?;
    let (inherits, value) = receiver.await.expect("the task ends by sending");
    assert!(inherits);
    assert_eq!(value?, 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn without_locals_the_error_names_the_way_out() -> PyResult<()> {
    let error = thread::spawn(|| block_on(python(1))).join().expect("it does not panic").expect_err("no locals");
    assert_names_the_way_out(&error);
    let error = in_bare_task(python(1)).await?.expect_err("no locals");
    assert_names_the_way_out(&error);
    let error = in_bare_task(async { current() }).await?.expect_err("no locals");
    assert_names_the_way_out(&error);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_task_may_be_spawned_without_locals() -> PyResult<()> {
    let (sender, receiver) = oneshot::channel();
    let spawned = thread::spawn(|| spawn(async { drop(sender.send(python(1).await)) }));
    spawned.join().expect("it does not panic")?;
    let error = receiver.await.expect("the task ends by sending").expect_err("no locals");
    assert_names_the_way_out(&error);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn scopes_nest() -> PyResult<()> {
    let (outer, middle, inner) = (current()?, others()?, others()?);
    let nested = async {
        let before = are_current(&middle);
        let within = scope(inner.clone(), async {
            let before = are_current(&inner);
            python(1).await?;
            PyResult::Ok(before && are_current(&inner))
        })
        .await?;
        PyResult::Ok((before, within, are_current(&middle)))
    };
    assert_eq!(scope(middle.clone(), nested).await?, (true, true, true));
    assert!(are_current(&outer));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn scopes_that_are_polled_in_turns_stay_apart() -> PyResult<()> {
    async fn look(locals: TaskLocals) -> PyResult<bool> {
        let mut stays = true;
        for turn in 0..5 {
            stays &= are_current(&locals);
            python(turn).await?;
        }
        Ok(stays)
    }

    let (one, other) = (others()?, others()?);
    let (one, other) = join!(scope(one.clone(), look(one)), scope(other.clone(), look(other)));
    assert_eq!((one?, other?), (true, true));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_scope_is_left_by_a_panic() -> PyResult<()> {
    let (outer, inner) = (current()?, others()?);
    let panics = async {
        assert!(are_current(&inner));
        panic!("in the scope");
    };
    let nested = AssertUnwindSafe(scope(inner.clone(), panics)).catch_unwind().await;
    let payload = nested.map(|()| "no panic").expect_err("it panics");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"in the scope"));
    assert!(are_current(&outer));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_scope_is_left_when_it_is_dropped_half_way() -> PyResult<()> {
    let (outer, inner) = (current()?, others()?);
    let (looks, dropped_within) = Looks::new(inner.clone());
    {
        let pending = async {
            let _looks = looks;
            assert!(are_current(&inner));
            future::pending::<()>().await;
        };
        let mut nested = pin!(scope(inner.clone(), pending));
        assert!(poll!(nested.as_mut()).is_pending());
        assert!(are_current(&outer), "between the polls");
    }
    assert!(are_current(&outer), "after the drop");
    assert!(dropped_within.await.expect("it is dropped"));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_is_cancelled_is_dropped_with_its_locals() -> PyResult<()> {
    /// Never ends.
    async fn pend(started: Counter, looks: oneshot::Sender<oneshot::Receiver<bool>>) -> PyResult<()> {
        let (_looks, dropped) = Looks::new(current()?);
        looks.send(dropped).expect("the test waits for it");
        started.add();
        future::pending().await
    }

    let code = Code::new(
        c"
async def cancel(awaitable, started):
    task = asyncio.ensure_future(awaitable)
    while not started.get():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()

async def cancel_future(make, started):
    await cancel(make(), started)

async def cancel_stream(make, started):
    iterator = make()
    await cancel(iterator.__anext__(), started)
    await iterator.aclose()
",
    )?;
    for way in Way::ALL {
        let (started, (sender, looks)) = (Counter::default(), oneshot::channel());
        let make = way.maker(pend(started.clone(), sender))?;
        code.future("cancel_future", (make, started))?.await?;
        let dropped = looks.await.expect("the future has sent it");
        assert!(dropped.await.expect("it is dropped"), "{way:?}");
    }
    let (started, (sender, looks)) = (Counter::default(), oneshot::channel());
    let stream = pend(started.clone(), sender).into_stream();
    let make = maker(move |py| into_async_iterator(py, stream))?;
    code.future("cancel_stream", (make, started))?.await?;
    let dropped = looks.await.expect("the stream has sent it");
    assert!(dropped.await.expect("it is dropped"), "a stream");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn locals_are_those_of_no_other_task() -> PyResult<()> {
    // On a runtime with one thread the other task is polled while this one, which has locals, is half-way.
    for _ in 0..10 {
        let (others, mine) = join!(in_bare_task(async { current() }), async {
            python(1).await?;
            current()
        });
        assert_names_the_way_out(&others?.expect_err("no locals"));
        mine?;
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn locals_name_their_event_loop_and_context() -> PyResult<()> {
    let code = Code::new(
        c"
import contextvars

async def event_loop():
    return asyncio.get_running_loop()
",
    )?;
    let event_loop = code.future("event_loop", ())?.await?;
    Python::attach(|py| {
        let locals = TaskLocals::current(py)?;
        assert!(locals.event_loop(py)?.is(&event_loop));
        let context: Bound<'_, PyType> = code.get(py, "contextvars")?.getattr("Context")?.cast_into()?;
        assert!(locals.context(py).is_instance(&context)?);
        let other = context.call0()?;
        assert!(locals.with_context(other.clone()).context(py).is(&other));
        assert!(format!("{locals:?}").starts_with("TaskLocals"), "{locals:?}");
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn locals_may_be_made_for_a_loop_that_does_not_run() -> PyResult<()> {
    Python::attach(|py| {
        let event_loop = super::event_loops::new_event_loop(py)?;
        let locals = TaskLocals::new(&event_loop)?;
        let sleep = py.import("asyncio")?.call_method1("sleep", (0, 1))?;
        let future = locals.into_future(sleep)?;
        let value = adapter::run_until_complete(&event_loop, future)?;
        assert_eq!(value.extract::<i32>(py)?, 1);
        event_loop.call_method0("close")?;

        let error = TaskLocals::new(&event_loop).expect_err("it is closed");
        assert!(error.to_string().contains("the event loop is closed"), "{error}");
        let unused = py.import("asyncio")?.getattr("Future")?;
        let keywords = PyDict::new(py);
        keywords.set_item("loop", &event_loop)?;
        let future = locals.into_future(unused.call((), Some(&keywords))?)?;
        let error = py.detach(|| block_on(future)).expect_err("it is closed");
        assert!(error.to_string().contains("the event loop is closed"), "{error}");
        Ok(())
    })
}
