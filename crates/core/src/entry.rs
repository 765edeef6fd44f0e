//! What `#[main]` expands to calls: the beginning and the end of a program whose main thread is Python's.

use std::{
    any::{self, Any},
    env,
    ffi::OsString,
    fmt,
    future::{self, Future},
    panic::{self, AssertUnwindSafe},
    pin::pin,
    process::ExitCode,
    task::Poll,
};

use pyo3::{
    exceptions::{PyKeyboardInterrupt, PySystemExit},
    prelude::*,
    types::PyInt,
};

use crate::{
    Runtime,
    once::intern,
    run::{self, LoopKind},
};

/// What is asked, in no order, before Python is started: whoever gives an exit code ends the process with it.
///
/// The test harness lists tests here.
#[linkme::distributed_slice]
pub static EARLY: [fn() -> Option<ExitCode>];

/// What is asked, in no order, when the main function has ended and its exit code is known, before `atexit`'s functions
/// are called: each is given the function's path and the code, and may make another code of it.
///
/// The test harness sees here that its run was not cut short, nor forgotten.
#[linkme::distributed_slice]
pub static LATE: [fn(&str, u8) -> u8];

/// What an async main function or a test may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what `#[main]` and `#[test]` can make a result of",
    label = "expected `()`, `PyResult<()>` or `Result<(), E>` with `E: Debug + 'static`",
    note = "an exit code is given by returning `Err(PySystemExit::new_err(code))` as a `PyResult<()>`"
)]
pub trait Output {
    /// The failure, if it is one.
    ///
    /// # Errors
    ///
    /// The failure.
    fn into_result(self) -> Result<(), Failure>;
}

/// Why an async main function or a test failed.
#[derive(Debug)]
pub enum Failure {
    /// It returned a Python exception.
    Python(PyErr),
    /// It returned any other error; this is its `Debug` text.
    Rust(String),
}

impl Output for () {
    fn into_result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: fmt::Debug + 'static> Output for Result<(), E> {
    fn into_result(self) -> Result<(), Failure> {
        self.map_err(|error| {
            let mut error = Some(error);
            match (&mut error as &mut dyn Any).downcast_mut::<Option<PyErr>>().and_then(Option::take) {
                Some(error) => Failure::Python(error),
                None => Failure::Rust(error.map_or_else(String::new, |error| format!("{error:?}"))),
            }
        })
    }
}

/// Runs an async main function on a new event loop, and the process to its end.
pub fn main<R, F>(runtime: impl FnOnce() -> PyResult<R>, kind: LoopKind, main: impl FnOnce() -> F) -> ExitCode
where
    R: Runtime,
    F: Future<Output: Output> + Send + 'static,
{
    let path = any::type_name_of_val(&main);
    if let Some(code) = EARLY.iter().find_map(|early| early()) {
        return code;
    }
    Python::initialize();
    let future = Box::pin(settle(main()));
    let run = |py: Python<'_>| {
        prepare(py)?;
        run::run(py, &runtime()?, kind, future)
    };
    Python::attach(|py| {
        // A panic of the main function has ended in `settle`; what is caught here is one that Python code carried.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(py)));
        let code = match outcome {
            Ok(Ok(Outcome::Success)) => 0,
            Ok(Ok(Outcome::Failure(Failure::Rust(error)))) => {
                eprintln!("Error: {error}");
                1
            }
            Ok(Ok(Outcome::Failure(Failure::Python(error))) | Err(error)) => report(py, error),
            // The panic hook has said why.
            Ok(Ok(Outcome::Panicked)) | Err(_) => 101,
        };
        end(py, LATE.iter().fold(code, |code, late| late(path, code)))
    })
}

/// How the main function ended.
enum Outcome {
    Success,
    Failure(Failure),
    Panicked,
}

/// Runs the main function to one of its ends.
///
/// None of them is an error here: an error would pass through the event loop, and its frames would stand in the
/// traceback.
async fn settle(main: impl Future<Output: Output>) -> PyResult<Outcome> {
    let mut main = pin!(main);
    future::poll_fn(|cx| {
        let poll = panic::catch_unwind(AssertUnwindSafe(|| main.as_mut().poll(cx).map(Output::into_result)));
        match poll {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ok(Outcome::Success)),
            Ok(Poll::Ready(Err(failure))) => Poll::Ready(Ok(Outcome::Failure(failure))),
            Err(_) => Poll::Ready(Ok(Outcome::Panicked)),
        }
    })
    .await
}

/// Does what `python` does for a program and an embedded interpreter leaves undone.
///
/// Ctrl-C needs no handler from here: asyncio imports `signal`, and with that Python takes SIGINT, unless it is
/// ignored.
fn prepare(py: Python<'_>) -> PyResult<()> {
    py.import("sys")?.setattr("argv", env::args_os().collect::<Vec<OsString>>())?;
    Ok(())
}

/// Writes what Python writes for an exception that nobody has caught, and gives the exit code.
fn report(py: Python<'_>, error: PyErr) -> u8 {
    if error.is_instance_of::<PySystemExit>(py) {
        return system_exit(py, &error);
    }
    let interrupted = error.is_instance_of::<PyKeyboardInterrupt>(py);
    error.print_and_set_sys_last_vars(py);
    // A process that SIGINT has ended has this code in a shell.
    if interrupted { 130 } else { 1 }
}

/// The exit code of a `SystemExit`: its `code` if that is a number, 0 for `None`; anything else is a message.
fn system_exit(py: Python<'_>, error: &PyErr) -> u8 {
    let value = error.value(py);
    let code = value.getattr(intern!(py, "code")).unwrap_or_else(|_| value.clone().into_any());
    if code.is_none() {
        return 0;
    }
    if code.is_instance_of::<PyInt>() {
        // As with `python`, a number that is too large for C is -1, and the system keeps the low byte.
        return code.extract::<i64>().unwrap_or(-1).to_le_bytes()[0];
    }
    let written = py.import(intern!(py, "sys")).and_then(|sys| {
        let stderr = sys.getattr(intern!(py, "stderr"))?;
        stderr.call_method1(intern!(py, "write"), (code.str()?,))?;
        stderr.call_method1(intern!(py, "write"), ("\n",))
    });
    if written.is_err() {
        eprintln!("{code}");
    }
    1
}

/// The end of the process, but for the return from its main function: what `Py_FinalizeEx` does first, in its order.
///
/// The interpreter itself stays: threads of the runtime may hold Python objects, or be about to attach.
fn end(py: Python<'_>, code: u8) -> ExitCode {
    let joined = py.import("threading").and_then(|threading| threading.call_method0("_shutdown"));
    let handled = py.import("atexit").and_then(|atexit| atexit.call_method0("_run_exitfuncs"));
    for result in [joined, handled] {
        if let Err(error) = result {
            error.write_unraisable(py, None);
        }
    }
    let flushed = [flush(py, "stdout"), flush(py, "stderr")];
    ExitCode::from(if flushed.contains(&false) { 120 } else { code })
}

/// Flushes one of Python's own streams, if it is there and open.
fn flush(py: Python<'_>, name: &str) -> bool {
    let Ok(stream) = py.import("sys").and_then(|sys| sys.getattr(name)) else { return true };
    let closed = || stream.getattr("closed")?.is_truthy();
    if stream.is_none() || closed().unwrap_or(false) {
        return true;
    }
    match stream.call_method0("flush") {
        Ok(_) => true,
        Err(error) => {
            // There is nowhere to say that stderr is broken.
            if name == "stdout" {
                error.write_unraisable(py, Some(&stream));
            }
            false
        }
    }
}
