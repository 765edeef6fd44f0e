//! The methods and attributes by which the object is a future to asyncio and to users.

use std::{mem::offset_of, sync::atomic::Ordering};

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyList, PyString, PyType},
};

use super::{
    AsyncioFuture, invalid_state,
    state::{Callback, Outcome},
};
use crate::{
    class::{self, Arguments, Get, Members, Object},
    context,
    event_loop::call_soon,
    once::PyOnce,
};

pub(super) fn members() -> Members<AsyncioFuture> {
    // SAFETY: an `AtomicBool` is a byte that is 0 or 1, as Python writes it, and this one is not under the lock.
    unsafe { Members::new().flag(c"_asyncio_future_blocking", offset_of!(AsyncioFuture, state.beside.blocking)) }
        .get(c"__class__", class)
        .get_set(c"_log_traceback", log_traceback, set_log_traceback)
        .get(c"_loop", |this| Ok(event_loop(this)))
        .get(c"_state", state)
        .get(c"_callbacks", callbacks)
        .get(c"_cancel_message", cancel_message)
        .get(c"_source_traceback", none)
        .method_always_at_hand(c"get_loop", event_loop)
        .method_always_at_hand(c"done", done)
        .method_always_at_hand(c"cancelled", cancelled)
        .method_at_hand(c"result", value, result)
        .method_at_hand(c"exception", no_exception, exception)
        .method(c"_make_cancelled_error", make_cancelled_error)
        .method_with(c"send", send)
        .method_with(c"throw", throw)
        .method_with(c"cancel", cancel)
        .method_with(c"add_done_callback", add_done_callback)
        .method_with(c"remove_done_callback", remove_done_callback)
        .method_with(c"set_result", set_result)
        .method_with(c"set_exception", set_exception)
}

type This<'py> = Bound<'py, Object<AsyncioFuture>>;

/// What `isinstance` takes for the class, if the type is another: libraries ask so whether something is a future.
fn class<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    static FUTURE: PyOnce<Py<PyType>> = PyOnce::new();

    Ok(FUTURE.import(this.py(), "asyncio", "Future")?.clone().into_any())
}

fn log_traceback<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(boolean(this.py(), this.get().state.beside.log_traceback.load(Ordering::Relaxed)))
}

fn set_log_traceback(this: &This<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_truthy()? {
        return Err(PyValueError::new_err("_log_traceback can only be set to False"));
    }
    this.get().state.beside.log_traceback.store(false, Ordering::Relaxed);
    Ok(())
}

fn event_loop<'py>(this: &This<'py>) -> Bound<'py, PyAny> {
    this.get().event_loop.bind(this.py()).clone()
}

fn state<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::new(this.py(), this.get().state_name(this.py())).into_any())
}

/// As asyncio has it: `None` or a list of pairs of a function and a context.
fn callbacks<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let pairs: Vec<_> = {
        let state = this.get().state.lock(this.py());
        let pair = |callback: &Callback| (callback.function.clone_ref(py), callback.context.clone_ref(py));
        state.extras.callbacks().iter().map(pair).collect()
    };
    Ok(if pairs.is_empty() { py.None().into_bound(py) } else { PyList::new(py, pairs)?.into_any() })
}

fn cancel_message<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let message = this.get().state.lock(py).cancel_message(py);
    Ok(message.unwrap_or_else(|| py.None()).into_bound(py))
}

fn none<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.py().None().into_bound(this.py()))
}

fn done<'py>(this: &This<'py>) -> Bound<'py, PyAny> {
    boolean(this.py(), this.get().is_done(this.py()))
}

fn cancelled<'py>(this: &This<'py>) -> Bound<'py, PyAny> {
    boolean(this.py(), matches!(this.get().state.lock(this.py()).outcome, Outcome::Cancelled(..)))
}

/// What it has returned.
fn value<'py>(this: &This<'py>) -> Option<Bound<'py, PyAny>> {
    match &this.get().state.lock(this.py()).outcome {
        Outcome::Done(value, _) => Some(value.bind(this.py()).clone()),
        _ => None,
    }
}

fn result<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    this.get().result(this.py()).unwrap_or_else(|| Err(invalid_state(this.py(), "Result is not set.")?))
}

/// `None`, if it has returned.
fn no_exception<'py>(this: &This<'py>) -> Option<Bound<'py, PyAny>> {
    let returned = matches!(this.get().state.lock(this.py()).outcome, Outcome::Done(..));
    returned.then(|| this.py().None().into_bound(this.py()))
}

fn exception<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let (py, future) = (this.py(), this.get());
    let error = {
        let state = future.state.lock(py);
        match &state.outcome {
            Outcome::Done(..) => return none(this),
            Outcome::Failed(error, _) => error.clone_ref(py),
            Outcome::Cancelled(..) => {
                drop(state);
                return Err(future.cancelled_error(py)?);
            }
            Outcome::Pending(..) | Outcome::Abandoned(..) => {
                drop(state);
                return Err(invalid_state(py, "Exception is not set.")?);
            }
        }
    };
    future.state.beside.log_traceback.store(false, Ordering::Relaxed);
    Ok(error.into_bound(py).into_any())
}

fn make_cancelled_error<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    Ok(this.get().cancelled_error(py)?.into_value(py).into_bound(py).into_any())
}

fn cancel<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("cancel", 0, 1, &["msg"])?;
    let message = match arguments.positional(0) {
        Some(message) => Some(message),
        None => arguments.keyword("msg")?,
    };
    let message = message.filter(|message| !message.is_none()).map(Bound::unbind);
    Ok(boolean(this.py(), AsyncioFuture::request_cancel(this, message)?))
}

fn add_done_callback<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("add_done_callback", 1, 1, &["context"])?;
    let (py, future) = (this.py(), this.get());
    let Some(function) = arguments.positional(0) else {
        return Err(PyTypeError::new_err("add_done_callback() takes a function"));
    };
    let context = match arguments.keyword("context")?.filter(|context| !context.is_none()) {
        Some(context) => context,
        None => context::copy_current(py)?,
    };
    let late = {
        let mut state = future.state.lock(py);
        let callback = Callback { function: function.unbind(), context: context.unbind() };
        if state.is_done() {
            Some(callback)
        } else {
            state.extras.add_callback(callback);
            None
        }
    };
    if let Some(Callback { function, context }) = late {
        call_soon(future.event_loop.bind(py), function.bind(py), this.as_any(), context.bind(py))?;
    }
    none(this)
}

/// Removes every callback that is equal to the given one, and counts them.
fn remove_done_callback<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("remove_done_callback", 1, 1, &[])?;
    let (py, future) = (this.py(), this.get());
    let Some(function) = arguments.positional(0) else {
        return Err(PyTypeError::new_err("remove_done_callback() takes a function"));
    };
    // Comparing calls Python, which may come back to this future: so on a copy, and by identity on the original.
    let candidates: Vec<_> = {
        let state = future.state.lock(py);
        state.extras.callbacks().iter().map(|callback| callback.function.clone_ref(py)).collect()
    };
    let mut equal = Vec::new();
    for candidate in candidates {
        if candidate.is(&function) || candidate.bind(py).eq(&function)? {
            equal.push(candidate);
        }
    }
    let removed: Vec<Callback> = {
        let mut state = future.state.lock(py);
        let all = state.extras.take_callbacks();
        let (removed, kept): (_, Vec<_>) = all.partition(|one| equal.iter().any(|other| one.function.is(other)));
        kept.into_iter().for_each(|callback| state.extras.add_callback(callback));
        removed
    };
    Ok(removed.len().into_pyobject(py)?.into_any())
}

/// As the iterator that `__await__` gives. It has no `close`, by which it would be taken for a coroutine.
fn send<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("send", 1, 1, &[])?;
    AsyncioFuture::resume(this)?.into_result()
}

fn throw<'py>(_: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    Err(class::thrown("throw", arguments)?)
}

fn set_result<'py>(_: &This<'py>, _: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    Err(PyRuntimeError::new_err("the future of a Rust future does not support set_result operation"))
}

fn set_exception<'py>(_: &This<'py>, _: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    Err(PyRuntimeError::new_err("the future of a Rust future does not support set_exception operation"))
}

fn boolean(py: Python<'_>, value: bool) -> Bound<'_, PyAny> {
    PyBool::new(py, value).to_owned().into_any()
}
