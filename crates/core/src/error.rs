//! The exceptions that the bridge raises of its own.

use pyo3::{
    exceptions::{
        PyBaseException, PyException, PyKeyboardInterrupt, PyRuntimeError, PyStopAsyncIteration, PyStopIteration,
        PySystemExit, PyTypeError,
    },
    prelude::*,
};

use crate::panic::Panic;

pyo3::create_exception!(
    pyo3_await,
    RustPanic,
    PyException,
    "A Rust future panicked.\n\n\
     It is an ordinary `Exception`, so tasks keep it and `except Exception` sees it. \
     The message is the panic's, and where it was."
);

pyo3::create_exception!(
    pyo3_await,
    ChannelClosed,
    PyException,
    "A channel between Rust and Python is closed.\n\n\
     It is raised when something is sent to it, and when something is received and all that was sent has been."
);

/// Makes the types that PyO3 would make when they are first used.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<RustPanic>();
    py.get_type::<ChannelClosed>();
}

/// Whether it is one of the exceptions that asyncio lets through, whoever has raised them.
pub(crate) fn ends_the_process(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// The first of two errors, unless the other one ends the process.
pub(crate) fn first<T>(py: Python<'_>, first: PyResult<T>, second: PyResult<()>) -> PyResult<T> {
    match second {
        Err(error) if first.is_ok() || ends_the_process(py, &error) => Err(error),
        _ => first,
    }
}

/// The exception for a panic that was caught.
pub(crate) fn panicked(panic: Panic) -> PyErr {
    RustPanic::new_err(panic.message())
}

/// Reports a panic that nobody can catch, from any thread.
pub(crate) fn report_panic(panic: Panic) {
    Python::try_attach(|py| panicked(panic).write_unraisable(py, None));
}

/// An exception that was kept as a Python object, which the garbage collector sees.
pub(crate) fn of_object(py: Python<'_>, error: Py<PyBaseException>) -> PyErr {
    PyErr::from_value(error.into_bound(py).into_any())
}

/// What a Rust future raised: a coroutine cannot raise `StopIteration`, which would look as if it had returned.
///
/// Python itself does the same (PEP 479).
pub(crate) fn not_stop_iteration(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let wrapped = PyRuntimeError::new_err("coroutine raised StopIteration");
    wrapped.set_cause(py, Some(error));
    wrapped
}

/// The runtime dropped a future whose result somebody awaits, or a stream whose items somebody wants.
pub(crate) fn abandoned(what: &str, name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "the Rust runtime dropped the {what} '{name}' before it had ended: was the runtime shut down, \
         or left behind by os.fork()?"
    ))
}

/// What a Rust stream raised: an asynchronous iterator cannot raise the exceptions that say how it goes on.
///
/// Python itself does the same with its asynchronous generators (PEP 479).
pub(crate) fn not_stop_async_iteration(py: Python<'_>, error: PyErr) -> PyErr {
    let name = if error.is_instance_of::<PyStopAsyncIteration>(py) {
        "StopAsyncIteration"
    } else if error.is_instance_of::<PyStopIteration>(py) {
        "StopIteration"
    } else {
        return error;
    };
    let wrapped = PyRuntimeError::new_err(format!("async generator raised {name}"));
    wrapped.set_cause(py, Some(error));
    wrapped
}

/// A value that Rust was asked to await cannot be awaited.
pub(crate) fn not_awaitable(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "'{}' object can't be awaited: into_future takes a coroutine, a future, a task or an object with __await__",
        kind_of(object)
    ))
}

/// A value that Rust was asked to iterate over is no asynchronous iterable.
pub(crate) fn not_async_iterable(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "'{}' object is not an asynchronous iterable: into_stream takes an asynchronous generator or an object \
         with __aiter__",
        kind_of(object)
    ))
}

fn kind_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().fully_qualified_name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// There is no event loop to run on.
pub(crate) fn no_event_loop() -> PyErr {
    PyRuntimeError::new_err(
        "no event loop: not inside a coroutine, and no TaskLocals in scope; \
         take TaskLocals::current(py) where a loop runs, and wrap the future in scope(locals, ...); \
         where none runs, run(py, ...) has one",
    )
}

/// There is no Rust task whose cancellation could be waited for.
pub(crate) fn not_in_a_task() -> PyErr {
    PyRuntimeError::new_err(
        "no Rust task: cancelled(...) is for futures that Python awaits, and tasks that inherit their TaskLocals",
    )
}

/// A coroutine or future was started outside an event loop.
pub(crate) fn no_running_event_loop(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "no running event loop: {what} must be awaited inside one of asyncio's, for instance by asyncio.run(...)"
    ))
}

/// A future that starts where it is made was made outside an event loop.
pub(crate) fn no_event_loop_to_start_in(name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "no running event loop: into_asyncio_future starts the Rust future '{name}' where it is called, which must be \
         in one, for instance in an async function; into_coroutine can be called anywhere"
    ))
}

/// The event loop that something was to run on is gone.
pub(crate) fn event_loop_closed() -> PyErr {
    PyRuntimeError::new_err(
        "the event loop is closed: the Python side of this future can't run any more; await it before the loop ends",
    )
}

/// The bridge was to be used by a subinterpreter.
pub(crate) fn in_subinterpreter() -> PyErr {
    PyRuntimeError::new_err(
        "Rust futures run in the main interpreter only: this is a subinterpreter; use a thread, or another process",
    )
}

/// The interpreter is ending, and the bridge has been stopped.
pub(crate) fn interpreter_ending() -> PyErr {
    PyRuntimeError::new_err(
        "the interpreter is ending: Rust futures are not run any more; what has to run at exit can be registered with \
         atexit after the first use of Rust futures, or awaited before the program ends",
    )
}

/// A thread that a Rust runtime needs was to wait for a future.
pub(crate) fn would_block_the_runtime(function: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{function} was called by a task of the Rust runtime, whose thread it would block: \
         await the future there instead, or call it in another thread"
    ))
}

/// A thread that an event loop needs was to wait for a future.
pub(crate) fn would_block_the_event_loop() -> PyErr {
    PyRuntimeError::new_err(
        "block_on was called in a running event loop, which it would block: await into_coroutine(...) there instead, \
         or call it in another thread, for instance by asyncio.to_thread(...)",
    )
}

/// Something that belongs to the process that forked this one was to go on here.
pub(crate) fn forked(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{what} was left behind by os.fork(): it goes on in the parent process only; \
         make a new event loop, for instance by asyncio.run(...), and new Rust futures in the child"
    ))
}

/// A local future or stream was to be polled on a thread that is not its own; `otherwise` makes what can leave it.
pub(crate) fn wrong_thread(what: &str, name: &str, otherwise: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "the local Rust {what} '{name}' can't leave its thread: use it on the thread on which it was made, \
         or make it by {otherwise}"
    ))
}
