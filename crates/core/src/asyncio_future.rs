//! The Python waiter of a Rust future: an object that is a future to asyncio.
//!
//! It is what a suspended coroutine yields, and what `into_asyncio_future` gives.
//! Like an `asyncio.Task` it is settled by what runs behind it, and `cancel` is a request that it passes on.

use std::{
    ffi::CStr,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use pyo3::{
    exceptions::{PyBaseException, PyRuntimeError, PyTypeError, PyValueError},
    ffi, intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyList, PyString, PyTraceback, PyType},
};

use crate::{
    class::{self, Arguments, Class, Get, Members, Object, Sent, Visit},
    context,
    event_loop::{self, Delivery, InFlight, Resume},
    sync::Lock,
    task::Cancel,
};

/// The contents of the Python object.
pub(crate) struct AsyncioFuture {
    event_loop: Py<PyAny>,
    /// The path of the Rust function, for messages.
    path: &'static str,
    /// asyncio's protocol: true from the moment in which the future is yielded until the task has seen it.
    blocking: AtomicBool,
    /// There is an exception that nobody has retrieved.
    log_traceback: AtomicBool,
    state: Lock<State>,
}

struct State {
    outcome: Outcome,
    /// Nearly always there is one callback: the waiting task's wake-up.
    first: Option<Callback>,
    more: Vec<Callback>,
    /// What runs behind it; `None` when it has ended.
    task: Option<Arc<dyn Cancel>>,
    cancel_requested: bool,
    cancel_message: Option<Py<PyAny>>,
}

struct Callback {
    function: Py<PyAny>,
    context: Py<PyAny>,
}

enum Outcome {
    Pending,
    Done(Py<PyAny>),
    /// The traceback is the one that the exception had when it came, so that awaiting twice does not grow it.
    Failed(Py<PyBaseException>, Option<Py<PyTraceback>>),
    Cancelled,
}

/// How a Rust future ended, as Python sees it.
pub(crate) enum Settlement {
    Done(Py<PyAny>),
    Failed(PyErr),
    Cancelled,
}

impl Settlement {
    /// What the await of it gives or raises.
    pub(crate) fn into_result(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Done(value) => Ok(value.into_bound(py)),
            Self::Failed(error) => Err(error),
            Self::Cancelled => Err(cancelled_error(py, None)?),
        }
    }
}

impl AsyncioFuture {
    pub(crate) fn new<'py>(event_loop: Bound<'py, PyAny>, task: Arc<dyn Cancel>) -> PyResult<Bound<'py, Object<Self>>> {
        let py = event_loop.py();
        let future = Self {
            event_loop: event_loop.unbind(),
            path: task.path(),
            blocking: AtomicBool::new(false),
            log_traceback: AtomicBool::new(false),
            state: Lock::new(State {
                outcome: Outcome::Pending,
                first: None,
                more: Vec::new(),
                task: Some(task),
                cancel_requested: false,
                cancel_message: None,
            }),
        };
        class::new(py, future)
    }

    /// Settles the waiter that the event loop has under `key`, on the loop's thread.
    pub(crate) fn deliver(key: usize, settlement: Settlement, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        match delivery.event_loop.remove(key) {
            Some(InFlight::Waiter(future)) => Self::settle(future.bind(delivery.py), settlement, delivery.resume),
            // The loop was closed meanwhile.
            _ => Ok(()),
        }
    }

    fn settle(this: &Bound<'_, Object<Self>>, settlement: Settlement, resume: Resume) -> PyResult<()> {
        let py = this.py();
        let future = this.get();
        let cancelled = future.state.lock().cancel_requested;
        let outcome = match settlement {
            // Whoever cancelled it was told that it would be.
            Settlement::Done(_) if cancelled => Outcome::Cancelled,
            Settlement::Done(value) => Outcome::Done(value),
            Settlement::Failed(error) => {
                let traceback = error.traceback(py).map(Bound::unbind);
                future.log_traceback.store(true, Ordering::Relaxed);
                Outcome::Failed(error.into_value(py), traceback)
            }
            Settlement::Cancelled => Outcome::Cancelled,
        };
        let (first, more, _task) = {
            let mut state = future.state.lock();
            state.outcome = outcome;
            (state.first.take(), mem::take(&mut state.more), state.task.take())
        };
        let mut result = Ok(());
        for Callback { function, context } in first.into_iter().chain(more) {
            let (function, context) = (function.bind(py), context.bind(py));
            // When a task's step has raised, it is the loop that shall see it; the rest comes later.
            if resume == Resume::Now && result.is_ok() && is_task_wakeup(function) {
                result = context::call(context, function, this.as_any()).map(drop);
            } else {
                future.call_soon(this, function, context)?;
            }
        }
        result
    }

    /// Has the Rust future dropped, without a word to Python: whoever waited for it is gone.
    pub(crate) fn abandon(&self, _: Python<'_>) {
        let task = self.state.lock().task.take();
        if let Some(task) = task {
            task.cancel();
        }
    }

    /// Whether it has been settled.
    pub(crate) fn is_done(&self) -> bool {
        !matches!(self.state.lock().outcome, Outcome::Pending)
    }

    /// Asks the Rust future to stop; whoever waits learns of it when it has.
    fn request_cancel(&self, message: Option<Py<PyAny>>) -> bool {
        let (task, _old_message) = {
            let mut state = self.state.lock();
            if !matches!(state.outcome, Outcome::Pending) {
                return false;
            }
            state.cancel_requested = true;
            (state.task.clone(), mem::replace(&mut state.cancel_message, message))
        };
        if let Some(task) = task {
            task.cancel();
        }
        true
    }

    /// The result, as `result()` gives or raises it.
    pub(crate) fn take_result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (error, traceback) = {
            let state = self.state.lock();
            match &state.outcome {
                Outcome::Done(value) => return Ok(value.bind(py).clone()),
                Outcome::Failed(error, traceback) => {
                    (error.clone_ref(py), traceback.as_ref().map(|traceback| traceback.clone_ref(py)))
                }
                Outcome::Cancelled => {
                    drop(state);
                    return Err(self.cancelled_error(py)?);
                }
                Outcome::Pending => {
                    drop(state);
                    return Err(invalid_state(py, "Result is not set.")?);
                }
            }
        };
        self.log_traceback.store(false, Ordering::Relaxed);
        let error = PyErr::from_value(error.into_bound(py).into_any());
        error.set_traceback(py, traceback.map(|traceback| traceback.into_bound(py)));
        Err(error)
    }

    /// Goes on with the await of this future.
    pub(crate) fn resume<'py>(this: &Bound<'py, Object<Self>>) -> PyResult<Sent<'py>> {
        let (py, future) = (this.py(), this.get());
        if future.is_done() {
            return future.take_result(py).map(Sent::Return);
        }
        if future.blocking.swap(true, Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        Ok(Sent::Yield(this.clone().into_any()))
    }

    fn state_name(&self) -> &'static str {
        match self.state.lock().outcome {
            Outcome::Pending => "PENDING",
            Outcome::Done(_) | Outcome::Failed(..) => "FINISHED",
            Outcome::Cancelled => "CANCELLED",
        }
    }

    fn cancelled_error(&self, py: Python<'_>) -> PyResult<PyErr> {
        let message = self.state.lock().cancel_message.as_ref().map(|message| message.clone_ref(py));
        cancelled_error(py, message)
    }

    fn call_soon(
        &self,
        this: &Bound<'_, Object<Self>>,
        function: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = this.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        self.event_loop.bind(py).call_method(intern!(py, "call_soon"), (function, this), Some(&keywords))?;
        Ok(())
    }

    /// Tells the loop's exception handler about an exception that nobody has retrieved.
    fn report_unretrieved(&self, py: Python<'_>) {
        if !self.log_traceback.swap(false, Ordering::Relaxed) {
            return;
        }
        let error = match &self.state.lock().outcome {
            Outcome::Failed(error, _) => error.clone_ref(py),
            _ => return,
        };
        let error = PyErr::from_value(error.into_bound(py).into_any());
        let message = format!("exception of the Rust future '{}' was never retrieved", self.path);
        if let Err(error) = event_loop::report(self.event_loop.bind(py), &message, error) {
            error.write_unraisable(py, None);
        }
    }
}

impl Class for AsyncioFuture {
    const NAME: &'static CStr = c"pyo3_await.Future";

    fn type_object() -> &'static PyOnceLock<Py<PyType>> {
        static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &TYPE
    }

    fn members() -> Members<Self> {
        Members::new()
            .get_set(c"_asyncio_future_blocking", blocking, set_blocking)
            .get_set(c"_log_traceback", log_traceback, set_log_traceback)
            .get(c"_loop", get_loop)
            .get(c"_state", state)
            .get(c"_callbacks", callbacks)
            .get(c"_cancel_message", cancel_message)
            .get(c"_source_traceback", none)
            .method(c"get_loop", get_loop)
            .method(c"done", done)
            .method(c"cancelled", cancelled)
            .method(c"result", result)
            .method(c"exception", exception)
            .method(c"_make_cancelled_error", make_cancelled_error)
            .method_with(c"cancel", cancel)
            .method_with(c"add_done_callback", add_done_callback)
            .method_with(c"remove_done_callback", remove_done_callback)
            .method_with(c"set_result", set_result)
            .method_with(c"set_exception", set_exception)
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let future = this.get();
        Ok(format!("<Future of '{}' {}>", future.path, future.state_name().to_lowercase()))
    }

    fn send<'py>(this: &Bound<'py, Object<Self>>, _: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        Self::resume(this)
    }

    fn traverse(&self, visit: &Visit) {
        visit.call(&self.event_loop);
        // Whoever holds the lock is about to let go; to visit less than all is safe, it only keeps garbage longer.
        let Some(state) = self.state.try_lock() else { return };
        for callback in state.first.iter().chain(&state.more) {
            visit.call(&callback.function);
            visit.call(&callback.context);
        }
        if let Some(message) = &state.cancel_message {
            visit.call(message);
        }
        match &state.outcome {
            Outcome::Done(value) => visit.call(value),
            Outcome::Failed(error, traceback) => {
                visit.call(error);
                traceback.iter().for_each(|traceback| visit.call(traceback));
            }
            Outcome::Pending | Outcome::Cancelled => {}
        }
    }

    fn clear(&self, py: Python<'_>) {
        // A cycle through the traceback is the usual end of an exception that nobody retrieved.
        self.report_unretrieved(py);
        let garbage = {
            let mut state = self.state.lock();
            let outcome = match state.outcome {
                Outcome::Pending => None,
                _ => Some(mem::replace(&mut state.outcome, Outcome::Cancelled)),
            };
            (state.first.take(), mem::take(&mut state.more), state.cancel_message.take(), outcome)
        };
        drop(garbage);
    }

    fn finalize(&mut self, py: Python<'_>) {
        self.report_unretrieved(py);
    }
}

type This<'py> = Bound<'py, Object<AsyncioFuture>>;

fn blocking<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(boolean(this.py(), this.get().blocking.load(Ordering::Relaxed)))
}

fn set_blocking(this: &This<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    this.get().blocking.store(value.is_truthy()?, Ordering::Relaxed);
    Ok(())
}

fn log_traceback<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(boolean(this.py(), this.get().log_traceback.load(Ordering::Relaxed)))
}

fn set_log_traceback(this: &This<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_truthy()? {
        return Err(PyValueError::new_err("_log_traceback can only be set to False"));
    }
    this.get().log_traceback.store(false, Ordering::Relaxed);
    Ok(())
}

fn get_loop<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.get().event_loop.bind(this.py()).clone())
}

fn state<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::new(this.py(), this.get().state_name()).into_any())
}

/// As asyncio has it: `None` or a list of pairs of a function and a context.
fn callbacks<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let pairs: Vec<_> = {
        let state = this.get().state.lock();
        let pair = |callback: &Callback| (callback.function.clone_ref(py), callback.context.clone_ref(py));
        state.first.iter().chain(&state.more).map(pair).collect()
    };
    Ok(if pairs.is_empty() { py.None().into_bound(py) } else { PyList::new(py, pairs)?.into_any() })
}

fn cancel_message<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let message = this.get().state.lock().cancel_message.as_ref().map(|message| message.clone_ref(py));
    Ok(message.unwrap_or_else(|| py.None()).into_bound(py))
}

fn none<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.py().None().into_bound(this.py()))
}

fn done<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(boolean(this.py(), this.get().is_done()))
}

fn cancelled<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(boolean(this.py(), matches!(this.get().state.lock().outcome, Outcome::Cancelled)))
}

fn result<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    this.get().take_result(this.py())
}

fn exception<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let (py, future) = (this.py(), this.get());
    let error = {
        let state = future.state.lock();
        match &state.outcome {
            Outcome::Done(_) => return none(this),
            Outcome::Failed(error, _) => error.clone_ref(py),
            Outcome::Cancelled => {
                drop(state);
                return Err(future.cancelled_error(py)?);
            }
            Outcome::Pending => {
                drop(state);
                return Err(invalid_state(py, "Exception is not set.")?);
            }
        }
    };
    future.log_traceback.store(false, Ordering::Relaxed);
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
    Ok(boolean(this.py(), this.get().request_cancel(message)))
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
        let mut state = future.state.lock();
        let callback = Callback { function: function.unbind(), context: context.unbind() };
        if !matches!(state.outcome, Outcome::Pending) {
            Some(callback)
        } else {
            if state.first.is_none() && state.more.is_empty() {
                state.first = Some(callback);
            } else {
                state.more.push(callback);
            }
            None
        }
    };
    if let Some(Callback { function, context }) = late {
        future.call_soon(this, function.bind(py), context.bind(py))?;
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
        let state = future.state.lock();
        state.first.iter().chain(&state.more).map(|callback| callback.function.clone_ref(py)).collect()
    };
    let mut equal = Vec::new();
    for candidate in candidates {
        if candidate.bind(py).eq(&function)? {
            equal.push(candidate);
        }
    }
    let removed: Vec<Callback> = {
        let mut state = future.state.lock();
        let all = state.first.take().into_iter().chain(mem::take(&mut state.more)).collect::<Vec<_>>();
        let (removed, kept) = all.into_iter().partition(|one| equal.iter().any(|other| one.function.is(other)));
        state.more = kept;
        removed
    };
    Ok(removed.len().into_pyobject(py)?.into_any())
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

fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyResult<PyErr> {
    static CANCELLED_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CANCELLED_ERROR.import(py, "asyncio", "CancelledError")?;
    let error = match message {
        Some(message) => class.call1((message,))?,
        None => class.call0()?,
    };
    Ok(PyErr::from_value(error))
}

fn invalid_state(py: Python<'_>, message: &'static str) -> PyResult<PyErr> {
    static INVALID_STATE_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = INVALID_STATE_ERROR.import(py, "asyncio", "InvalidStateError")?;
    Ok(PyErr::from_value(class.call1((message,))?))
}

/// Whether a callback is the wake-up of one of asyncio's own tasks, which may be called from the drain.
///
/// A task that is written in C leaves a builtin function that is bound to it; they all have the same C function.
/// Any other callback, those of tasks written in Python among them, goes through `call_soon`.
fn is_task_wakeup(function: &Bound<'_, PyAny>) -> bool {
    /// The address of that C function, once it has been seen.
    static TASK_WAKEUP: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: the thread is attached, and a builtin function has an address.
    let address = unsafe {
        if ffi::Py_TYPE(function.as_ptr()) != &raw mut ffi::PyCFunction_Type {
            return false;
        }
        ffi::PyCFunction_GetFunction(function.as_ptr()).map_or(0, |function| function as usize)
    };
    let known = TASK_WAKEUP.load(Ordering::Relaxed);
    if known != 0 {
        return address == known;
    }
    let wakes_a_task = || -> PyResult<bool> {
        let py = function.py();
        let task = py.import(intern!(py, "_asyncio"))?.getattr(intern!(py, "Task"))?;
        let name = function.getattr(intern!(py, "__name__"))?;
        Ok(name.eq("task_wakeup")? && function.getattr(intern!(py, "__self__"))?.is_instance(&task)?)
    };
    let found = wakes_a_task().unwrap_or(false);
    if found {
        TASK_WAKEUP.store(address, Ordering::Relaxed);
    }
    found
}
