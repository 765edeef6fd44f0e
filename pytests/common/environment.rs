//! Where the cases run.

use std::thread;

use pyo3::prelude::*;
use pyo3_await_pytests::{Subject as _, on_loop};

use crate::{
    Subject,
    adapter::{self, TaskLocals},
};

/// The event loop that the program's name ends with.
pub(super) fn event_loop_module() -> &'static str {
    if env!("CARGO_CRATE_NAME").ends_with("_uvloop") { "uvloop" } else { "asyncio" }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_event_loop_is_the_one_that_the_program_is_named_for() -> PyResult<()> {
    Python::attach(|py| {
        let event_loop = TaskLocals::current(py)?.event_loop(py)?;
        let module: String = event_loop.get_type().getattr("__module__")?.extract()?;
        assert_eq!(module.split('.').next(), Some(event_loop_module()));
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn the_interpreter_is_the_one_that_the_program_was_built_for() {
    Python::attach(|py| {
        let version = py.version_info();
        assert_eq!(format!("{}.{}", version.major, version.minor), env!("BUILT_FOR_PYTHON"));
    });
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_main_thread_is_pythons() -> PyResult<()> {
    let (name, is_pythons) = on_loop(|py| {
        // Python refuses this in any other thread than its main thread.
        let signal = py.import("signal")?;
        let arguments = (signal.getattr("SIGUSR2")?, signal.getattr("SIG_DFL")?);
        signal.call_method1("signal", arguments)?;
        let threading = py.import("threading")?;
        let is_pythons = threading.call_method0("current_thread")?.is(threading.call_method0("main_thread")?);
        Ok((thread::current().name().map(str::to_owned), is_pythons))
    })
    .await?;
    assert_eq!((name.as_deref(), is_pythons), (Some("main"), true));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn futures_run_on_the_runtime() -> PyResult<()> {
    assert!(Subject::on_worker(), "a test: {:?}", thread::current());
    assert!(!on_loop(|_| Ok(Subject::on_worker())).await?, "the event loop's thread");
    Ok(())
}
