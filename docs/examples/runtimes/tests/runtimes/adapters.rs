//! Every adapter has the same API, a runtime of one's own included, and all work at once.
//!
//! That the API is the same is checked when this is compiled: `same_api!` names each item by its path, with its
//! signature, and the macros are used with the same options.

use std::{
    cell::Cell, convert::Infallible, future::Future, pin::Pin, process::ExitCode, rc::Rc, sync::Arc, thread,
    time::Duration,
};

use ::tokio::sync::Barrier;
use pyo3::{prelude::*, types::PyNone};

/// The items of an adapter, each by its path and with its signature.
macro_rules! same_api {
    ($adapter:ident, $runtime:ty) => {
        const _: () = {
            let _: fn() -> PyResult<$runtime> = $adapter::current_runtime;

            let _: IntoAwaitable<Sent<PyResult<Unshared>>> = $adapter::into_coroutine;
            let _: IntoAwaitable<Sent<PyResult<Unshared>>> = $adapter::into_eager_coroutine;
            let _: IntoAwaitable<Local<PyResult<Unsent>>> = $adapter::into_local_coroutine;
            let _: IntoAwaitable<Sent<PyResult<Unshared>>> = $adapter::into_asyncio_future;
            let _: fn(Bound<'_, PyAny>) -> PyResult<$adapter::PythonFuture> = $adapter::into_future;

            let _: fn(Python<'_>, Sent<PyResult<NotPython>>) -> PyResult<NotPython> = $adapter::run;
            let _: fn(&Bound<'_, PyAny>, Sent<PyResult<NotPython>>) -> PyResult<NotPython> =
                $adapter::run_until_complete;
            let _: fn(&Bound<'_, PyAny>) -> PyResult<()> = $adapter::run_forever;

            let _: fn(Sent<()>) -> PyResult<()> = $adapter::spawn;
            let _: fn($adapter::TaskLocals, Local<Unsent>) -> $adapter::Scope<Local<Unsent>> = $adapter::scope;
            let _: fn(fn(Python<'_>) -> PyResult<Unsent>) -> PyResult<Unsent> = $adapter::attach;
            let _: fn(Duration) -> PyResult<$adapter::Cancelled> = $adapter::cancelled;

            // The types are core's own: a value goes from one adapter to the other.
            let _: fn($adapter::PythonFuture) -> pyo3_await::PythonFuture = |same| same;
            let _: fn($adapter::Cancelled) -> pyo3_await::Cancelled = |same| same;
            let _: fn($adapter::RustPanic) -> pyo3_await::RustPanic = |same| same;
            let _: fn($adapter::Scope<()>) -> pyo3_await::Scope<()> = |same| same;
            let _: fn($adapter::TaskLocals) -> pyo3_await::TaskLocals = |same| same;
            const fn implements<R: $adapter::Runtime + $adapter::RuntimeExt>() {
                const fn implements_cores<R: pyo3_await::Runtime + pyo3_await::RuntimeExt>() {}
                implements_cores::<R>();
            }
            implements::<$runtime>();

            let _ = $adapter::testing::main;
        };
    };
}

/// For each adapter: its API, its macros, and a future that runs beside those of all others.
macro_rules! adapters {
    ($($name:ident: $($adapter:ident)::+, $runtime:ty, threads $threads:literal, #[$main:meta], #[$test:meta];)*) => {
        $(
            mod $name {
                pub(super) use $($adapter)::+ as adapter;

                use super::*;

                same_api!(adapter, $runtime);

                #[$main]
                async fn program() -> PyResult<()> {
                    Ok(())
                }

                // A process has one `main`: this one is not called.
                const _: fn() -> ExitCode = program;

                /// It runs on the runtime whose test it is, whosever `main` has started the program.
                #[$test]
                async fn a_test_runs_on_its_own_runtime() {
                    let thread = thread_name();
                    assert!(thread.starts_with($threads), "{thread}");
                }
            }
        )*

        /// What [`meet`] gives on each runtime begins with the same place of the other list.
        fn one_of_each(py: Python<'_>) -> PyResult<(Vec<Bound<'_, PyAny>>, Vec<&'static str>)> {
            let threads = vec![$($threads),*];
            let all = Arc::new(Barrier::new(threads.len()));
            Ok((vec![$($name::adapter::into_coroutine(py, meet(all.clone()))?),*], threads))
        }
    };
}

adapters! {
    tokio: pyo3_await_tokio, pyo3_await_tokio::Tokio, threads "tokio-",
        #[pyo3_await_tokio::main(event_loop = "asyncio")],
        #[pyo3_await_tokio::test(timeout = "60s")];
    async_std: pyo3_await_async_std, pyo3_await_async_std::AsyncStd, threads "async-std/",
        #[pyo3_await_async_std::main(event_loop = "asyncio")],
        #[pyo3_await_async_std::test(timeout = "60s")];
    smol: pyo3_await_smol, pyo3_await_smol::Smol, threads "smol-",
        #[pyo3_await_smol::main(event_loop = "asyncio")],
        #[pyo3_await_smol::test(timeout = "60s")];
    thread_per_task: pyo3_await_example_runtimes::thread_per_task, adapter::ThreadPerTask, threads "thread-per-task",
        #[pyo3_await::main(crate = pyo3_await_example_runtimes::thread_per_task, event_loop = "asyncio")],
        #[pyo3_await::test(crate = pyo3_await_example_runtimes::thread_per_task, timeout = "60s")];
    thread_per_core: pyo3_await_example_runtimes::thread_per_core, adapter::ThreadPerCore, threads "core",
        #[pyo3_await::main(crate = pyo3_await_example_runtimes::thread_per_core, event_loop = "asyncio")],
        #[pyo3_await::test(crate = pyo3_await_example_runtimes::thread_per_core, timeout = "60s")];
    pool: pyo3_await_example_runtimes::pool, adapter::Pool, threads "pool",
        #[pyo3_await::main(crate = pyo3_await_example_runtimes::pool, event_loop = "asyncio")],
        #[pyo3_await::test(crate = pyo3_await_example_runtimes::pool, timeout = "60s")];
}

type IntoAwaitable<F> = for<'py> fn(Python<'py>, F) -> PyResult<Bound<'py, PyAny>>;

// Futures and outputs that can do no more than is asked of them.
type Sent<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Local<T> = Pin<Box<dyn Future<Output = T>>>;
type Unshared = Cell<i64>;
struct NotPython;
struct Unsent(#[expect(dead_code, reason = "it is here for what it cannot do")] Rc<()>);

impl<'py> IntoPyObject<'py> for Unsent {
    type Target = PyNone;
    type Output = Borrowed<'py, 'py, PyNone>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyNone::get(py))
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Waits for all others, so that they must be under way at the same time.
async fn meet(all: Arc<Barrier>) -> PyResult<String> {
    all.wait().await;
    Ok(thread_name())
}

#[pyo3_await_tokio::test(timeout = "60s")]
async fn futures_of_all_runtimes_meet_on_one_event_loop() -> PyResult<()> {
    let (gathered, threads) = Python::attach(|py| {
        let (coroutines, threads) = one_of_each(py)?;
        let code = c"
import asyncio

async def gather(coroutines):
    return await asyncio.gather(*coroutines)
";
        let gather = PyModule::from_code(py, code, c"gather.py", c"gather")?.getattr("gather")?;
        PyResult::Ok((pyo3_await_tokio::into_future(gather.call1((coroutines,))?)?, threads))
    })?;
    let gathered = gathered.await?;
    let ran_on: Vec<String> = Python::attach(|py| gathered.extract(py))?;
    assert_eq!(ran_on.len(), threads.len());
    for (thread, expected) in ran_on.iter().zip(threads) {
        assert!(thread.starts_with(expected), "{thread} is not one of {expected}*");
    }
    Ok(())
}
