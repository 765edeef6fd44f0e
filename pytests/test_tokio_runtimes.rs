//! Runtimes and handles of tokio's that the application owns.

use std::{future, sync::mpsc, task::Poll, thread, time::Duration};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_pytests::{Code, Counter, function, on_loop, once};
use pyo3_await_tokio::{
    Runtime as _, RuntimeExt, TaskLocals, Tokio, block_on, current_runtime,
    entry::{Flavor, own_runtime},
    into_future, run, scope, spawn,
};
use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    sync::oneshot,
    task, time,
};

#[pyo3_await_tokio::main]
async fn main() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

/// A runtime with one worker, of this name.
fn own(name: &str) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all().build().expect("the runtime starts")
}

fn thread_name() -> Option<String> {
    thread::current().name().map(str::to_owned)
}

/// How a future becomes awaitable.
#[derive(Clone, Copy, Debug)]
enum Way {
    Coroutine,
    EagerCoroutine,
    AsyncioFuture,
}

const WAYS: [Way; 3] = [Way::Coroutine, Way::EagerCoroutine, Way::AsyncioFuture];

/// Python awaits, in another task, a future on a runtime.
fn awaited<F>(tokio: &Tokio, way: Way, future: F) -> PyResult<oneshot::Receiver<PyResult<Py<PyAny>>>>
where
    F: Future<Output = PyResult<()>> + Send + 'static,
{
    let tokio = tokio.clone();
    let make = pyo3_await_pytests::once(move |py| {
        let awaitable = match way {
            Way::Coroutine => tokio.into_coroutine(py, future),
            Way::EagerCoroutine => tokio.into_eager_coroutine(py, future),
            Way::AsyncioFuture => tokio.into_asyncio_future(py, future),
        };
        awaitable.map(Bound::unbind)
    })?;
    let code = Code::new(
        c"
async def await_made(make):
    return await make()
",
    )?;
    let call = code.future("await_made", (make,))?;
    let (sender, receiver) = oneshot::channel();
    spawn(async move {
        let _ = sender.send(call.await);
    })?;
    Ok(receiver)
}

fn assert_says_what_happened(error: &PyErr, way: Way) {
    Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{way:?}: {error}"));
    let message = error.to_string();
    assert!(message.contains("the Rust runtime dropped the future"), "{way:?}: {message}");
    assert!(message.contains("was the runtime shut down"), "{way:?}: {message}");
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn one_that_is_shut_down_ends_what_is_pending() -> PyResult<()> {
    for way in WAYS {
        let runtime = own("short-lived");
        let (polled, dropped) = (Counter::new(), Counter::new());
        let (signal, guard) = (polled.clone(), dropped.guard());
        let future = future::poll_fn(move |_| {
            let _guard = &guard;
            // The first poll may be the one in place.
            if thread_name().as_deref() == Some("short-lived") {
                signal.add();
            }
            std::task::Poll::Pending
        });
        let outcome = awaited(&Tokio::new(runtime.handle().clone()), way, future)?;
        polled.reached(1).await;
        runtime.shutdown_background();
        let error = outcome.await.expect("the task ends by sending").expect_err("the runtime is gone");
        assert_says_what_happened(&error, way);
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn one_that_was_shut_down_takes_nothing() -> PyResult<()> {
    for way in WAYS {
        let runtime = own("gone");
        let tokio = Tokio::new(runtime.handle().clone());
        runtime.shutdown_background();
        let dropped = Counter::new();
        let guard = dropped.guard();
        let outcome = awaited(&tokio, way, async move {
            let _guard = guard;
            future::pending().await
        })?;
        let error = outcome.await.expect("the task ends by sending").expect_err("the runtime is gone");
        assert_says_what_happened(&error, way);
        assert_eq!(dropped.get(), 1, "{way:?}");
    }
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn a_future_uses_the_runtime_that_it_runs_on() -> PyResult<()> {
    let runtime = own("outer");
    let tokio = Tokio::from(runtime.handle().clone());
    let id = runtime.handle().id().to_string();
    let nested = function(move |py, _| {
        let look = async {
            // By the free function, from inside: the same runtime.
            let inner = Python::attach(|py| {
                let coroutine = pyo3_await_tokio::into_coroutine(py, async { Ok(Handle::current().id().to_string()) })?;
                into_future(coroutine)
            })?;
            let inner = inner.await?;
            Ok((thread_name(), Python::attach(|py| inner.extract::<String>(py))?))
        };
        tokio.into_coroutine(py, look).map(Bound::unbind)
    })?;
    let seen = Python::attach(|py| into_future(nested.bind(py).call0()?))?.await?;
    let seen: (String, String) = Python::attach(|py| seen.extract(py))?;
    assert_eq!(seen, ("outer".to_owned(), id));
    runtime.shutdown_background();
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn the_event_loops_thread_is_in_no_runtime() -> PyResult<()> {
    let (there, current) =
        on_loop(|_| Ok((Handle::try_current().is_ok(), format!("{:?}", current_runtime()?)))).await?;
    assert!(!there);
    // It is the default that serves there, and this test runs on it.
    assert_eq!(current, format!("{:?}", current_runtime()?));
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn any_runtime_may_block_on_python() -> PyResult<()> {
    let locals = Python::attach(TaskLocals::current)?;
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("the runtime starts");
        let sleep = async {
            let sleep = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0, 7))?))?;
            let seven = sleep.await?;
            Python::attach(|py| seven.extract::<i32>(py))
        };
        let _ = sender.send(runtime.block_on(scope(locals, sleep)));
    });
    assert_eq!(receiver.await.expect("the thread ends by sending")?, 7);
    Ok(())
}

/// Waits for Rust, in Python's hands.
fn blocks(py: Python<'_>) -> PyResult<i32> {
    block_on(py, async {
        time::sleep(Duration::from_millis(1)).await;
        Ok(7)
    })
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn what_may_block_may_wait_for_rust() -> PyResult<()> {
    let blocking = task::spawn_blocking(|| Python::attach(blocks));
    assert_eq!(blocking.await.expect("it does not panic")?, 7);
    assert_eq!(task::block_in_place(|| Python::attach(blocks))?, 7);
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn a_task_of_tokios_own_may_not() {
    let error = task::spawn(async { Python::attach(blocks) }).await.expect("it does not panic");
    let message = error.expect_err("it is refused").to_string();
    assert!(message.contains("block_on was called by a task of the Rust runtime"), "{message}");
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn who_drives_a_runtime_does_not_wait_for_it() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("the runtime starts");
    let errors = runtime.block_on(async {
        // Whatever of its budget is left.
        let spent = future::poll_fn(|cx| {
            let mut spent = 0;
            while let Poll::Ready(proceed) = task::coop::poll_proceed(cx) {
                proceed.made_progress();
                spent += 1;
            }
            Poll::Ready(spent)
        });
        let fresh = Python::attach(blocks);
        assert!(spent.await > 0);
        [fresh, Python::attach(blocks), Python::attach(|py| run(py, async { Ok(7) }))]
    });
    for error in errors {
        let message = error.expect_err("it is refused").to_string();
        assert!(message.contains("by a task of the Rust runtime"), "{message}");
    }
    // One that is merely entered is driven by nobody, or somebody else.
    let entered = runtime.enter();
    assert_eq!(task::try_id(), None);
    drop(entered);
    // The future of a runtime with threads may block its own.
    let runtime = own("waits");
    assert_eq!(runtime.block_on(async { Python::attach(blocks) }).expect("it ends"), 7);
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn the_runtime_of_a_test_ends_with_it() -> PyResult<()> {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread] {
        let (sender, ended) = oneshot::channel::<()>();
        let runtime = own_runtime(flavor, Some(2))?;
        let kept = runtime.clone();
        // It is the runtime that drops this, with whatever else is left in it.
        runtime.spawn(async move {
            let _sender = sender;
            future::pending::<()>().await;
        });
        runtime.spawn(async move { drop(kept) });
        drop(runtime);
        ended.await.expect_err("nothing is sent");
    }
    Ok(())
}

#[pyo3_await_tokio::test(flavor = "current_thread", timeout = "60s")]
async fn a_test_may_have_one_thread() {
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}

#[pyo3_await_tokio::test(worker_threads = 3, timeout = "60s")]
async fn a_test_may_have_workers_of_its_own() {
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
    assert_eq!(Handle::current().metrics().num_workers(), 3);
}

/// A value that says, when it is dropped, whether that was in tokio's context.
struct WantsRuntime(mpsc::Sender<bool>);

impl Drop for WantsRuntime {
    fn drop(&mut self) {
        let _ = self.0.send(Handle::try_current().is_ok());
    }
}

impl<'py> IntoPyObject<'py> for WantsRuntime {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, _: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        unreachable!("its loop is closed before it is converted")
    }
}

/// Ends when the future that is given to it has ended, as its drop says.
struct Ended(mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn what_nobody_takes_is_dropped_inside_the_runtime() {
    const TIMES: usize = 50;

    let (sender, drops) = mpsc::channel();
    // Now and then a worker has the value still, and drops it: so it is done many times.
    for _ in 0..TIMES {
        let value = WantsRuntime(sender.clone());
        let start = move |py: Python<'_>| {
            let (sender, ended) = mpsc::channel();
            let ended_with_future = Ended(sender);
            pyo3_await_tokio::into_asyncio_future(py, async move {
                let _ended = ended_with_future;
                Ok(value)
            })?;
            // The loop's thread is attached until the loop is closed.
            ended.recv().expect("the future is dropped");
            Ok(())
        };
        thread::spawn(|| {
            Python::attach(|py| -> PyResult<()> {
                let event_loop = py.import("asyncio")?.call_method0("new_event_loop")?;
                event_loop.call_method1("call_soon", (once(start)?,))?;
                event_loop.call_method1("call_soon", (event_loop.getattr("stop")?,))?;
                event_loop.call_method0("run_forever")?;
                event_loop.call_method0("close").map(drop)
            })
        })
        .join()
        .expect("the thread does not panic")
        .expect("the loop is closed");
    }
    let inside: Vec<bool> = drops.iter().take(TIMES).collect();
    assert_eq!(inside, [true; TIMES]);
}
