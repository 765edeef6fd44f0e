//! The Python waiter of a Rust future: an object that is a future to asyncio.
//!
//! It is what a suspended coroutine yields, and what `into_asyncio_future` gives.
//! Like an `asyncio.Task` it is settled by what runs behind it, and `cancel` is a request that it passes on.

mod cancel;
mod interface;
mod state;
mod wakeup;

use std::{
    cell::Cell,
    ffi::CStr,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyDict, PyType},
};

pub(crate) use self::cancel::make_types;
use self::{
    state::{Callback, Outcome, State},
    wakeup::OfAsyncio,
};
use crate::{
    class::{self, Awaitable, Class, Get, Members, Object, Protocol, Sent, Visit},
    context, error,
    event_loop::{Delivery, InFlight, Resume, call_soon},
    once::{PyOnce, intern},
    path::Path,
    sync::SpinLock,
    task::Cancel,
};

/// The contents of the Python object.
pub(crate) struct AsyncioFuture {
    event_loop: Py<PyAny>,
    state: SpinLock<State, Flags>,
}

/// What Python writes, or what is looked at by itself: without the lock.
struct Flags {
    /// asyncio's protocol: true from the moment in which the future is yielded until the task has seen it.
    blocking: AtomicBool,
    /// There is an exception that nobody has retrieved.
    log_traceback: AtomicBool,
}

/// How a Rust future ended, as Python sees it.
pub(crate) enum Settlement {
    Done(Py<PyAny>),
    Failed(Box<PyErr>),
    Cancelled,
    /// An error that no cancellation takes the place of.
    FailedForGood(Box<PyErr>),
}

impl Settlement {
    pub(crate) fn failed(error: PyErr) -> Self {
        Self::Failed(Box::new(error))
    }

    /// Whether it is an error that no cancellation takes the place of.
    fn is_final_word(&self, py: Python<'_>) -> bool {
        match self {
            Self::FailedForGood(_) => true,
            Self::Failed(error) => error::ends_the_process(py, error),
            Self::Done(_) | Self::Cancelled => false,
        }
    }

    /// What the await of it gives or raises.
    pub(crate) fn into_result(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Done(value) => Ok(value.into_bound(py)),
            Self::Failed(error) | Self::FailedForGood(error) => Err(*error),
            Self::Cancelled => Err(cancelled_error(py, None)?),
        }
    }
}

impl AsyncioFuture {
    pub(crate) fn new<'py>(event_loop: Bound<'py, PyAny>, task: Arc<dyn Cancel>) -> PyResult<Bound<'py, Object<Self>>> {
        let py = event_loop.py();
        let flags = Flags { blocking: AtomicBool::new(false), log_traceback: AtomicBool::new(false) };
        let state = SpinLock::with_beside(State::pending(task), flags);
        class::new(py, Self { event_loop: event_loop.unbind(), state })
    }

    /// Settles the waiter that the event loop has under `key`, on the loop's thread.
    pub(crate) fn deliver(key: u32, settlement: Settlement, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        match delivery.event_loop.remove(delivery.py, key) {
            Some(InFlight::Waiter(future)) => Self::settle(future.bind(delivery.py), settlement, &delivery.resume),
            // The loop was closed meanwhile.
            _ => Ok(()),
        }
    }

    fn settle(this: &Bound<'_, Object<Self>>, settlement: Settlement, resume: &Cell<Resume>) -> PyResult<()> {
        let (py, future) = (this.py(), this.get());
        let final_word = settlement.is_final_word(py);
        let (outcome, traceback) = Outcome::of(py, settlement, future.path(py))?;
        let (callbacks, timer, done, garbage) = {
            let mut state = future.state.lock(py);
            if state.is_done() {
                // A cancellation took too long, and was settled without the Rust future's end.
                return Ok(());
            }
            let (outcome, unwanted) = match outcome {
                // Whoever cancelled it was told that it would be.
                outcome if state.overrules(&outcome, final_word) => {
                    (Outcome::Cancelled(None, outcome.path()), Some(outcome))
                }
                outcome => (outcome, None),
            };
            if let Outcome::Failed(..) = outcome {
                future.state.beside.log_traceback.store(state.task().is_some(), Ordering::Relaxed);
                if traceback.is_some() {
                    state.extras.with_rare(|rare| rare.traceback = traceback);
                }
            }
            let done = matches!(outcome, Outcome::Done(..));
            let pending = mem::replace(&mut state.outcome, outcome);
            let callbacks = state.extras.take_callbacks();
            let timer = state.extras.rare_mut().and_then(|rare| rare.timer.take());
            (callbacks, timer, done, (pending, unwanted))
        };
        drop(garbage);
        let mut result = Ok(());
        for Callback { function, context } in callbacks {
            let (function, context) = (function.bind(py), context.bind(py));
            // Whatever comes after a callback that has to wait for the loop's next turn waits too, so that the order
            // stays; and when a task's step has raised, it is the loop that shall see it first.
            let now = resume.get() == Resume::Now && result.is_ok();
            let of_asyncio = if now { OfAsyncio::of(function) } else { None };
            if of_asyncio.is_none() {
                resume.set(Resume::Soon);
            }
            let call = || match of_asyncio {
                Some(kind) => {
                    let shown = if done && kind == OfAsyncio::Wakeup { wakeup::done(py)? } else { this.as_any() };
                    context::within(context, || function.call1((shown,)).map(drop))?
                }
                None => call_soon(future.event_loop.bind(py), function, this.as_any(), context),
            };
            // An exception (Ctrl-C may come anywhere in Python's code) keeps none of the others from being called.
            result = error::first(py, result, call());
        }
        let timer = timer.map_or(Ok(()), |timer| timer.call_method0(py, intern!(py, "cancel")).map(drop));
        error::first(py, result, timer)
    }

    /// Has the Rust future dropped, without a word to Python: whoever waited for it is gone.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        let pending = {
            let mut state = self.state.lock(py);
            let Outcome::Pending(task, process) = &state.outcome else { return };
            let abandoned = Outcome::Abandoned(task.path(), *process);
            mem::replace(&mut state.outcome, abandoned)
        };
        match pending {
            Outcome::Pending(task, process) if process.is_current() => task.cancel(),
            left_behind => mem::forget(left_behind),
        }
    }

    /// The path of the Rust future's type.
    pub(crate) fn path(&self, py: Python<'_>) -> Path {
        self.state.lock(py).outcome.path()
    }

    /// Whether it has been settled.
    pub(crate) fn is_done(&self, py: Python<'_>) -> bool {
        self.state.lock(py).is_done()
    }

    /// Whether a task that it was yielded to waits for it, if it is pending.
    pub(crate) fn is_awaited(&self, py: Python<'_>) -> bool {
        !self.state.beside.blocking.load(Ordering::Relaxed) && !self.state.lock(py).is_left_behind()
    }

    /// The result, as `result()` gives or raises it; nothing as long as it is pending.
    pub(crate) fn result<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let (error, traceback) = {
            let state = self.state.lock(py);
            match &state.outcome {
                Outcome::Pending(..) | Outcome::Abandoned(..) => return None,
                Outcome::Done(value, _) => return Some(Ok(value.bind(py).clone())),
                Outcome::Failed(error, _) => {
                    let traceback = state.extras.rare().and_then(|rare| rare.traceback.as_ref());
                    (error.clone_ref(py), traceback.map(|traceback| traceback.clone_ref(py)))
                }
                Outcome::Cancelled(..) => {
                    drop(state);
                    return Some(self.cancelled_error(py).and_then(Err));
                }
            }
        };
        self.state.beside.log_traceback.store(false, Ordering::Relaxed);
        let error = error::of_object(py, error);
        error.set_traceback(py, traceback.map(|traceback| traceback.into_bound(py)));
        Some(Err(error))
    }

    /// Goes on with the await of this future.
    pub(crate) fn resume<'py>(this: &Bound<'py, Object<Self>>) -> PyResult<Sent<'py>> {
        let (py, future) = (this.py(), this.get());
        if let Some(result) = future.result(py) {
            return result.map(Sent::Return);
        }
        let left_behind = {
            let state = future.state.lock(py);
            state.is_left_behind().then(|| state.outcome.path())
        };
        if let Some(path) = left_behind {
            return Err(error::forked(&format!("the Rust future '{}'", path.name())));
        }
        if future.state.beside.blocking.swap(true, Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        Ok(Sent::Yield(this.clone().into_any()))
    }

    fn state_name(&self, py: Python<'_>) -> &'static str {
        match self.state.lock(py).outcome {
            Outcome::Pending(..) | Outcome::Abandoned(..) => "PENDING",
            Outcome::Done(..) | Outcome::Failed(..) => "FINISHED",
            Outcome::Cancelled(..) => "CANCELLED",
        }
    }

    fn cancelled_error(&self, py: Python<'_>) -> PyResult<PyErr> {
        let (raised, message) = {
            let state = self.state.lock(py);
            let raised = match &state.outcome {
                Outcome::Cancelled(Some(error), _) => Some(error.clone_ref(py)),
                _ => None,
            };
            (raised, state.cancel_message(py))
        };
        match raised {
            Some(error) => Ok(error::of_object(py, error)),
            None => cancelled_error(py, message),
        }
    }

    /// Tells the loop's exception handler about an exception that nobody has retrieved.
    fn report_unretrieved(this: &Bound<'_, Object<Self>>) -> PyResult<()> {
        let (py, future) = (this.py(), this.get());
        if !future.state.beside.log_traceback.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let (error, path) = match &future.state.lock(py).outcome {
            Outcome::Failed(error, path) => (error.clone_ref(py), *path),
            _ => return Ok(()),
        };
        let context = PyDict::new(py);
        let message = format!("exception of the Rust future '{}' was never retrieved", path.qualified_name());
        context.set_item(intern!(py, "message"), message)?;
        context.set_item(intern!(py, "exception"), error)?;
        context.set_item(intern!(py, "future"), this)?;
        future.event_loop.bind(py).call_method1(intern!(py, "call_exception_handler"), (context,))?;
        Ok(())
    }
}

impl Awaitable for AsyncioFuture {
    fn send<'py>(this: &Bound<'py, Object<Self>>, _: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        Self::resume(this)
    }
}

impl Class for AsyncioFuture {
    const NAME: &'static CStr = c"pyo3_await.Future";
    const FINALIZES: bool = true;

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    fn protocol() -> Protocol {
        Protocol::awaitable::<Self>()
    }

    fn members(_: Python<'_>) -> Members<Self> {
        interface::members()
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let (py, future) = (this.py(), this.get());
        Ok(format!("<Future of '{}' {}>", future.path(py).qualified_name(), future.state_name(py).to_lowercase()))
    }

    fn traverse(&self, visit: &Visit) {
        visit.call(&self.event_loop);
        let Some(state) = self.state.try_lock(visit.attached()) else { return };
        for callback in state.extras.callbacks() {
            visit.call(&callback.function);
            visit.call(&callback.context);
        }
        if let Some(rare) = state.extras.rare() {
            rare.cancel_message.iter().chain(&rare.timer).for_each(|object| visit.call(object));
            rare.traceback.iter().for_each(|traceback| visit.call(traceback));
        }
        match &state.outcome {
            Outcome::Done(value, _) => visit.call(value),
            Outcome::Failed(error, _) | Outcome::Cancelled(Some(error), _) => visit.call(error),
            Outcome::Pending(..) | Outcome::Abandoned(..) | Outcome::Cancelled(None, _) => {}
        }
    }

    fn clear(&self, py: Python<'_>) {
        let garbage = {
            let mut state = self.state.lock(py);
            let path = state.outcome.path();
            let outcome = state.is_done().then(|| mem::replace(&mut state.outcome, Outcome::Cancelled(None, path)));
            (mem::take(&mut state.extras), outcome)
        };
        drop(garbage);
    }

    fn has_last_words(&mut self) -> bool {
        *self.state.beside.log_traceback.get_mut()
    }

    fn finalize(this: &Bound<'_, Object<Self>>) {
        if let Err(error) = Self::report_unretrieved(this) {
            error.write_unraisable(this.py(), Some(this.as_any()));
        }
    }
}

pub(crate) fn cancelled_error_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CANCELLED_ERROR: PyOnce<Py<PyType>> = PyOnce::new();
    CANCELLED_ERROR.import(py, "asyncio", "CancelledError")
}

pub(crate) fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyResult<PyErr> {
    let class = cancelled_error_class(py)?;
    let error = match message {
        Some(message) => class.call1((message,))?,
        None => class.call0()?,
    };
    Ok(PyErr::from_value(error))
}

fn invalid_state(py: Python<'_>, message: &'static str) -> PyResult<PyErr> {
    static INVALID_STATE_ERROR: PyOnce<Py<PyType>> = PyOnce::new();
    let class = INVALID_STATE_ERROR.import(py, "asyncio", "InvalidStateError")?;
    Ok(PyErr::from_value(class.call1((message,))?))
}
