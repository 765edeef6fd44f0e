//! The application's pool.

use std::{future, num::NonZero, thread};

use futures::{channel::oneshot, future::join};
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await::{PythonFuture, RuntimeExt, into_future};
use pyo3_await_example_runtimes::pool::{self, Application, Pool};

fn start() -> Application {
    Application::start("tested", NonZero::<usize>::MIN).unwrap()
}

/// A future on the pool, awaited by Python.
fn awaited<T>(pool: &Pool, future: impl Future<Output = PyResult<T>> + Send + 'static) -> PyResult<PythonFuture>
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Python::attach(|py| into_future(pool.into_coroutine(py, future)?))
}

fn assert_shut_down(result: PyResult<Py<PyAny>>) {
    let error = result.unwrap_err();
    Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
    assert!(error.to_string().contains("was the runtime shut down"), "{error}");
}

#[pyo3_await::test(crate = pool, timeout = "60s")]
async fn futures_run_on_the_threads_of_the_application() -> PyResult<()> {
    let application = start();
    let pool = Pool::of(application.executor());
    let own = application.executor().spawn(async { thread::current().id() }).await;
    awaited(&pool, async move {
        assert_eq!(thread::current().id(), own);
        Ok(())
    })?
    .await?;
    Ok(())
}

#[pyo3_await::test(crate = pool, timeout = "60s")]
async fn whoever_waits_when_the_pool_ends_gets_an_error() -> PyResult<()> {
    let application = start();
    let pool = Pool::of(application.executor());
    let (started, has_started) = oneshot::channel();
    let pending = awaited(&pool, async {
        let _ = started.send(());
        future::pending::<PyResult<()>>().await
    })?;
    let end = async {
        has_started.await.unwrap();
        drop(application);
    };
    let (result, ()) = join(pending, end).await;
    assert_shut_down(result);
    Ok(())
}

#[pyo3_await::test(crate = pool, timeout = "60s")]
async fn a_future_for_a_pool_that_has_ended_fails_at_once() -> PyResult<()> {
    // An executor without threads is dropped here, and nowhere else.
    let pool = Pool::of(&Default::default());
    assert_shut_down(awaited(&pool, async { Ok(()) })?.await);
    Ok(())
}
