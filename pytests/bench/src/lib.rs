//! What `cargo xtask bench` measures: the same small futures, run by each contender in its own way.
//!
//! The module has a submodule for each contender, and each of those has the same functions, as far as it can.

mod floor;
mod futures;
mod native;
mod ours;
mod peer;
mod streams;

use std::sync::OnceLock;

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_tokio::Tokio;
use tokio::runtime::{Builder, Handle, Runtime};

/// The one tokio runtime, which all contenders use.
static TOKIO: OnceLock<Runtime> = OnceLock::new();

#[pymodule]
fn contenders(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ABI3", cfg!(feature = "abi3"))?;
    module.add_function(wrap_pyfunction!(start_tokio, module)?)?;
    module.add_function(wrap_pyfunction!(release, module)?)?;
    ours::add_to(module)?;
    peer::add_to(module)?;
    native::add_to(module)?;
    floor::add_to(module)?;
    streams::add_to(module)
}

/// Starts tokio, with as many worker threads, or with tokio's own choice. To be called once, before anything else.
///
/// Threads that `keep_states` have a Python thread state for as long as they live; else each attachment makes one.
#[pyfunction]
#[pyo3(signature = (workers, keep_states))]
fn start_tokio(workers: Option<usize>, keep_states: bool) -> PyResult<()> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    if keep_states {
        builder.on_thread_start(keep_state);
    }
    let runtime = TOKIO.get_or_init(|| builder.build().expect("the benchmark's runtime starts"));
    Tokio::new(runtime.handle().clone()).set_default()?;
    pyo3_async_runtimes::tokio::init_with_runtime(runtime)
        .map_err(|()| PyRuntimeError::new_err("the peer has a runtime already"))
}

/// Gives this thread a Python thread state that stays. The process ends without ending its threads.
#[expect(unsafe_code, reason = "an attachment that does not end with a scope is in no safe API")]
fn keep_state() {
    // SAFETY: the interpreter lives until the process ends, since the driver leaves by `os._exit`. The first call makes
    // the state and attaches it, for which it needs no other; the second detaches it again, as every thread has to
    // that is about to do something else. Nobody releases what the first has taken, so that the state stays.
    unsafe {
        pyo3::ffi::PyGILState_Ensure();
        pyo3::ffi::PyEval_SaveThread();
    }
}

/// Ends all that is pending.
#[pyfunction]
fn release() {
    futures::release();
}

fn tokio() -> &'static Handle {
    TOKIO.get().expect("`start_tokio` was called").handle()
}

/// A submodule for one contender.
fn submodule(
    parent: &Bound<'_, PyModule>,
    name: &str,
    fill: impl FnOnce(&Bound<'_, PyModule>) -> PyResult<()>,
) -> PyResult<()> {
    let module = PyModule::new(parent.py(), name)?;
    fill(&module)?;
    parent.add_submodule(&module)
}
