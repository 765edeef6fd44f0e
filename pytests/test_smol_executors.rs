//! smol's executors that the application owns.

use std::{
    future::{self, Future},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use futures::{channel::oneshot, future::join};
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_pytests::program::{self, in_child};
use pyo3_await_smol::{PythonFuture, RuntimeExt as _, Smol, into_future};
use smol::{Executor, channel};

/// A process in which nobody has used smol yet.
const UNUSED: &str = "unused";

fn main() -> ExitCode {
    program::main(&[(UNUSED, || child_of_a_parent_without_smol().expect("it gives no error"))], tests)
}

#[pyo3_await_tokio::main]
async fn tests() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

/// An executor with a thread of this name, and what ends the thread when it is dropped.
fn start(name: &str) -> (Arc<Executor<'static>>, channel::Sender<()>) {
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = channel::bounded(1);
    let runs = Arc::clone(&executor);
    let run = move || smol::block_on(runs.run(stopped.recv()));
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("the thread starts");
    (executor, stop)
}

async fn thread_name() -> PyResult<Option<String>> {
    Ok(thread::current().name().map(str::to_owned))
}

/// Python awaits a future that is on an executor.
fn awaited<F, T>(smol: &Smol, future: F) -> PyResult<PythonFuture>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Python::attach(|py| into_future(smol.into_coroutine(py, future)?))
}

fn assert_shut_down(result: PyResult<Py<PyAny>>) {
    let error = result.expect_err("the executor is gone");
    Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
    assert!(error.to_string().contains("was the runtime shut down"), "{error}");
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn futures_run_on_the_executor_of_their_value() -> PyResult<()> {
    let executors = ["one", "other"].map(|name| (name, start(name)));
    for (name, (executor, _)) in &executors {
        let ran_on = awaited(&Smol::new(executor), thread_name())?.await?;
        assert_eq!(Python::attach(|py| ran_on.extract::<String>(py))?, *name);
    }
    let ran_on = awaited(&Smol::global(), thread_name())?.await?;
    assert_eq!(Python::attach(|py| ran_on.extract::<String>(py))?, "smol-1");
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn whoever_waits_when_an_executor_is_dropped_gets_an_error() -> PyResult<()> {
    let (executor, stop) = start("ends");
    let smol = Smol::new(&executor);
    let (started, has_started) = oneshot::channel();
    let pending = awaited(&smol, async {
        started.send(()).expect("the test waits");
        future::pending::<PyResult<()>>().await
    })?;
    let end = async {
        has_started.await.expect("it starts");
        drop((executor, stop));
    };
    let (result, ()) = join(pending, end).await;
    assert_shut_down(result);
    assert_shut_down(awaited(&smol, async { Ok(()) })?.await);
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn the_default_can_be_set_until_it_is_used() -> PyResult<()> {
    let (executor, _stop) = start("default");
    Smol::new(&executor).set_default()?;
    let coroutine = Python::attach(|py| into_future(pyo3_await_smol::into_coroutine(py, thread_name())?))?;
    let ran_on = coroutine.await?;
    assert_eq!(Python::attach(|py| ran_on.extract::<String>(py))?, "default");

    let error = Smol::global().set_default().expect_err("it has been used");
    assert_eq!(
        error.to_string(),
        "the default smol executor is in use already: replace it before the first future is started"
    );
    assert!(Python::attach(|py| PyErr::from(error).is_instance_of::<PyRuntimeError>(py)));
    Ok(())
}

async fn nap() -> PyResult<()> {
    smol::Timer::after(Duration::from_millis(1)).await;
    Ok(())
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn a_forked_child_may_replace_the_default_that_its_parent_has_not_used() {
    program::run(UNUSED);
}

fn child_of_a_parent_without_smol() -> PyResult<()> {
    Python::initialize();
    // No thread runs it, which would use smol: its reactor's thread would not be in the child.
    let executor = Arc::new(Executor::new());
    Smol::new(&executor).set_default()?;
    in_child(|| {
        let (executor, _stop) = start("of the child");
        Smol::new(&executor).set_default()?;
        Python::attach(|py| {
            pyo3_await_smol::run(py, nap())?;
            let ran_on: Option<String> = pyo3_await_smol::run(py, thread_name())?;
            assert_eq!(ran_on.as_deref(), Some("of the child"));
            Ok(())
        })
    })
}

#[pyo3_await_tokio::test(timeout = "60s")]
fn a_forked_child_is_told_that_the_thread_for_timers_is_not_there() -> PyResult<()> {
    Python::attach(|py| Smol::global().block_on(py, nap()))?;
    in_child(|| {
        let (executor, _stop) = start("of the child");
        Python::attach(|py| {
            for smol in [Smol::global(), Smol::new(&executor)] {
                for result in [smol.block_on(py, nap()), smol.run(py, nap())] {
                    let error = result.expect_err("it is left behind");
                    assert!(error.to_string().contains("os.fork()"), "{error}");
                }
            }
        });
        Ok(())
    })
}
