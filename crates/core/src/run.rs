//! Running an event loop from Rust.

use std::{
    ffi::CString,
    future::{self, Future},
    mem,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use pyo3::{
    ffi::c_str,
    prelude::*,
    types::{PyCFunction, PyTuple},
};

use crate::{
    Runtime, RuntimeExt, TaskLocals, error,
    event_loop::{self, EventLoop},
    lifecycle,
    once::{PyOnce, intern},
    path::Path,
    signals::{Reader, Wakeup},
};

/// Which event loop a run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopKind {
    /// What `asyncio.run` makes: asyncio's own, unless the event loop policy was changed.
    Policy,
    /// uvloop's.
    Uvloop,
}

impl LoopKind {
    /// The module whose `run` makes this kind of loop.
    fn module<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
        match self {
            Self::Policy => py.import(intern!(py, "asyncio")),
            Self::Uvloop => py.import(intern!(py, "uvloop")),
        }
    }
}

/// [`RuntimeExt::run`], on a loop of the given kind.
pub(crate) fn run<R, F, T>(py: Python<'_>, runtime: &R, kind: LoopKind, future: F) -> PyResult<T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + 'static,
{
    let run = kind.module(py)?.getattr(intern!(py, "run"))?;
    complete(py, runtime, "run", future, |coroutine, _| {
        let main = until_all_have_ended(&coroutine)?;
        run.call1((&main,)).inspect_err(|_| {
            // As above all others, the error of the run is the one to be seen.
            let _ = main.call_method0(intern!(py, "close"));
        })
    })
}

/// A coroutine that awaits another one, and then the Python tasks that the drop of a Rust future has cancelled.
fn until_all_have_ended<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static MAIN: PyOnce<Py<PyAny>> = PyOnce::new();

    let py = coroutine.py();
    let main = MAIN.get_or_try_init(py, || {
        // Each copy of this library in a process has a module of its own, hence the address in the name.
        let name = CString::new(format!("pyo3_await_run_{:x}", (&raw const MAIN) as usize))?;
        let module = PyModule::from_code(py, c_str!(include_str!("run.py")), c"<pyo3_await.run>", &name)?;
        Ok::<_, PyErr>(module.getattr("main")?.unbind())
    })?;
    let ending = PyCFunction::new_closure(py, None, None, |arguments: &Bound<'_, PyTuple>, _| {
        let py = arguments.py();
        PyResult::Ok(EventLoop::running(py)?.map_or_else(Vec::new, |event_loop| event_loop.ending(py)))
    })?;
    let main = main.bind(py).call1((coroutine, ending))?;
    for name in [intern!(py, "__name__"), intern!(py, "__qualname__")] {
        main.setattr(name, coroutine.getattr(name)?)?;
    }
    Ok(main)
}

pub(crate) fn run_until_complete<R, F, T>(event_loop: &Bound<'_, PyAny>, runtime: &R, future: F) -> PyResult<T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + 'static,
{
    let py = event_loop.py();
    complete(py, runtime, "run_until_complete", future, |coroutine, wakeup| {
        let result = event_loop.call_method1(intern!(py, "run_until_complete"), (coroutine,));
        ended(result, wakeup, event_loop)
    })
}

/// Runs an event loop that the caller owns until its `stop` is called.
///
/// The seed of the whole bridge: the main thread is Python's, and the Rust runtime works in the background.
///
/// # Errors
///
/// What the loop's own `run_forever` raises, `KeyboardInterrupt` included.
pub fn run_forever(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    // One that runs refuses to be run, and may be another thread's.
    let runs = event_loop.call_method0(intern!(py, "is_running"))?.is_truthy()?;
    let wakeup = if runs { None } else { Wakeup::set(py)? };
    if let Some(wakeup) = &wakeup {
        wakeup.reader().add(event_loop)?;
    }
    let result = event_loop.call_method0(intern!(py, "run_forever"));
    ended(result, wakeup.as_ref(), event_loop).map(drop)
}

/// The result of a run, when the loop reads signals no more.
fn ended<'py>(
    result: PyResult<Bound<'py, PyAny>>,
    wakeup: Option<&Wakeup<'py>>,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    error::first(event_loop.py(), result, wakeup.map_or(Ok(()), |wakeup| wakeup.remove_from(event_loop)))
}

/// Gives `drive` a coroutine for `future`, and returns the output, which never becomes a Python object.
fn complete<'py, R, F, T>(
    py: Python<'py>,
    runtime: &R,
    what: &str,
    future: F,
    drive: impl FnOnce(Bound<'py, PyAny>, Option<&Wakeup<'py>>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + 'static,
{
    // A loop that is run re-entrantly, on its own thread, is Python's business.
    if runtime.is_in_task() || lifecycle::is_inside() && !event_loop::is_running(py)? {
        return Err(error::would_block_the_runtime(what));
    }
    let output = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&output);
    let wakeup = Wakeup::set(py)?;
    let mut reader = wakeup.as_ref().map(Wakeup::reader);
    let mut first = true;
    let coroutine = runtime.into_eager_coroutine(py, async move {
        // The first poll is made on the loop's thread, and only that: no worker attaches for this.
        future::poll_fn(|_| {
            if !mem::take(&mut first) {
                return Poll::Ready(Ok(()));
            }
            let add = |reader: Reader| Python::attach(|py| reader.add(&TaskLocals::current(py)?.event_loop(py)?));
            match reader.take().map_or(Ok(()), add) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await?;
        let value = future.await?;
        *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    })?;
    // It is the caller's future that reports name, not the one around it.
    coroutine.setattr(intern!(py, "__name__"), Path::of::<F>().name())?;
    coroutine.setattr(intern!(py, "__qualname__"), &*Path::of::<F>().qualified_name())?;
    if let Err(error) = drive(coroutine.clone(), wakeup.as_ref()) {
        // A loop that refuses it leaves it as it is, and it would warn that nobody awaited it. One that was stopped has
        // made a task of it, which may go on.
        if !coroutine.getattr(intern!(py, "cr_suspended"))?.is_truthy()? {
            coroutine.call_method0(intern!(py, "close"))?;
        }
        return Err(error);
    }
    let value = output.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("the event loop stopped before the future had ended"))
}
