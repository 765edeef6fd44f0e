//! Rust future -> Python coroutine.

use std::{
    ffi::{CStr, CString},
    mem,
    sync::Arc,
};

use pyo3::{
    exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyString, PyType},
};

use crate::{
    asyncio_future::AsyncioFuture,
    class::{self, Arguments, Awaitable, Class, Get, Members, Object, Protocol, Sent, Visit},
    error,
    lifecycle::{self, Process},
    once::PyOnce,
    sync::SpinLock,
    task::{self, Path, Polled, Start},
};

/// The contents of the Python object.
pub(crate) struct Coroutine {
    /// Where it was made: a task that was not started in one process is nobody's in another.
    process: Process,
    state: SpinLock<State>,
    /// Where the names come from.
    path: Path,
}

struct State {
    stage: Stage,
    /// The names that Python code has set.
    renamed: Option<Box<Names>>,
}

enum Stage {
    /// Nothing has happened yet.
    Created(Arc<dyn Start>),
    /// A step is under way: another `send`, `throw` or `close` is refused.
    Running,
    /// The Rust future runs, and the waiter was yielded.
    Suspended(Py<Object<AsyncioFuture>>),
    /// It has returned, raised or been closed.
    Closed,
}

/// Python lets its coroutines be renamed. Hardly anybody does, so there is nothing here but on demand.
#[derive(Default)]
struct Names {
    name: Option<Py<PyString>>,
    qualified: Option<Py<PyString>>,
}

/// A coroutine for a task that has not been started.
pub(crate) fn new(py: Python<'_>, task: Arc<dyn Start>) -> PyResult<Bound<'_, PyAny>> {
    let coroutine = Coroutine {
        process: Process::current(),
        path: task.path(),
        state: SpinLock::new(State { stage: Stage::Created(task), renamed: None }),
    };
    Ok(class::new(py, coroutine)?.into_any())
}

/// The right to step a coroutine, which is running for that long.
struct Step<'a> {
    coroutine: &'a Coroutine,
    /// What comes after it. Until it is known to go on, it is closed: so it stays when the step fails.
    next: Stage,
}

impl<'a> Step<'a> {
    /// Begins a step, and gives the stage that the coroutine was in.
    fn begin(coroutine: &'a Coroutine) -> PyResult<(Self, Stage)> {
        let stage = mem::replace(&mut coroutine.state.lock().stage, Stage::Running);
        if let Stage::Running = stage {
            return Err(PyValueError::new_err("coroutine already executing"));
        }
        Ok((Self { coroutine, next: Stage::Closed }, stage))
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.coroutine.state.lock().stage = mem::replace(&mut self.next, Stage::Closed);
    }
}

impl Coroutine {
    fn resume<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        let (mut step, stage) = Step::begin(self)?;
        match stage {
            Stage::Created(task) => {
                if !value.is_none() {
                    step.next = Stage::Created(task);
                    return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
                }
                if !self.process.is_current() {
                    mem::forget(task);
                    return Err(error::forked(&format!("the coroutine '{}'", self.name(py))));
                }
                let _pass = lifecycle::admit(py)?;
                let mut locals = None;
                match task.poll_in_place(py, &mut locals) {
                    Polled::Ended(settlement) => settlement.into_result(py).map(Sent::Return),
                    Polled::Waits(task) => step.go_on(task::start(py, task, locals)?),
                }
            }
            Stage::Suspended(future) => {
                let future = future.into_bound(py);
                if future.get().is_done() {
                    return future.get().take_result(py).map(Sent::Return);
                }
                step.go_on(future)
            }
            Stage::Running | Stage::Closed => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }

    /// Raises `error` where the coroutine is suspended: the Rust future cannot catch it, so that is its end.
    fn throw(&self, py: Python<'_>, error: PyErr) -> PyResult<PyErr> {
        let (_step, stage) = Step::begin(self)?;
        if let Stage::Closed = stage {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
        }
        stage.abandon(py, self.process);
        Ok(error)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (_step, stage) = Step::begin(self)?;
        stage.abandon(py, self.process);
        Ok(())
    }

    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let set = self.state.lock().renamed.as_ref().and_then(|names| Some(names.name.as_ref()?.bind(py).clone()));
        set.unwrap_or_else(|| PyString::new(py, self.path.name()))
    }

    fn qualified_name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let set = self.state.lock().renamed.as_ref().and_then(|names| Some(names.qualified.as_ref()?.bind(py).clone()));
        set.unwrap_or_else(|| PyString::new(py, &self.path.qualified_name()))
    }

    fn state_name(&self) -> &'static str {
        match &self.state.lock().stage {
            Stage::Created(_) => "created",
            Stage::Running => "running",
            Stage::Suspended(_) => "suspended",
            Stage::Closed => "closed",
        }
    }
}

impl Step<'_> {
    fn go_on<'py>(&mut self, future: Bound<'py, Object<AsyncioFuture>>) -> PyResult<Sent<'py>> {
        match AsyncioFuture::resume(&future) {
            Ok(Sent::Yield(object)) => {
                self.next = Stage::Suspended(future.unbind());
                Ok(Sent::Yield(object))
            }
            Ok(Sent::Return(value)) => Ok(Sent::Return(value)),
            Err(error) => {
                future.get().abandon(future.py());
                Err(error)
            }
        }
    }
}

impl Awaitable for Coroutine {
    fn send<'py>(this: &Bound<'py, Object<Self>>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        this.get().resume(this.py(), value)
    }
}

impl Class for Coroutine {
    const NAME: &'static CStr = c"pyo3_await.Coroutine";
    const FINALIZES: bool = true;

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    fn protocol() -> Protocol {
        Protocol::awaitable::<Self>()
    }

    fn members() -> Members<Self> {
        Members::new()
            .method_with(c"send", send)
            .method_with(c"throw", throw)
            .method(c"close", close)
            .method(c"__await__", await_)
            .get_set(c"__name__", name, set_name)
            .get_set(c"__qualname__", qualified_name, set_qualified_name)
            .get(c"cr_await", cr_await)
            .get(c"cr_running", cr_running)
            .get(c"cr_suspended", cr_suspended)
            .get(c"cr_frame", none)
            .get(c"cr_code", none)
            .get(c"cr_origin", none)
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let coroutine = this.get();
        let name = coroutine.qualified_name(this.py());
        Ok(format!("<coroutine object {name} {} at {:p}>", coroutine.state_name(), this.as_ptr()))
    }

    fn traverse(&self, visit: &Visit) {
        // Whoever holds the lock is about to let go; to visit less than all is safe, it only keeps garbage longer.
        if let Some(state) = self.state.try_lock() {
            if let Stage::Suspended(future) = &state.stage {
                visit.call(future);
            }
        }
    }

    fn clear(&self, py: Python<'_>) {
        let mut state = self.state.lock();
        if let Stage::Suspended(_) = state.stage {
            let old = mem::replace(&mut state.stage, Stage::Closed);
            drop(state);
            old.abandon(py, self.process);
        }
    }

    fn has_last_words(&mut self) -> bool {
        matches!(self.state.get_mut().stage, Stage::Created(_))
    }

    fn is_empty(&mut self) -> bool {
        matches!(self.state.get_mut(), State { stage: Stage::Closed, renamed: None })
    }

    fn finalize(this: &Bound<'_, Object<Self>>) {
        let created = matches!(this.get().state.lock().stage, Stage::Created(_));
        // In a forked child nobody was to await it.
        if created && this.get().process.is_current() {
            warn_never_awaited(this);
        }
    }
}

impl Stage {
    /// Ends what has been started, and what has not.
    fn abandon(self, py: Python<'_>, process: Process) {
        match self {
            Self::Suspended(future) => future.get().abandon(py),
            // What it refers to may be another process's runtime.
            Self::Created(task) if !process.is_current() => mem::forget(task),
            Self::Created(_) | Self::Running | Self::Closed => {}
        }
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        let stage = mem::replace(&mut self.state.get_mut().stage, Stage::Closed);
        if let Stage::Created(_) | Stage::Suspended(_) = stage {
            // A Python object is dropped attached.
            Python::try_attach(|py| stage.abandon(py, self.process));
        }
    }
}

/// Python's own warning.
fn warn_never_awaited(this: &Bound<'_, Object<Coroutine>>) {
    let py = this.py();
    let warn = || -> PyResult<()> {
        let name = this.get().qualified_name(py);
        let message = CString::new(format!("coroutine '{name}' was never awaited"))?;
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)
    };
    if let Err(error) = warn() {
        // `-W error` makes the warning an exception, which nobody can catch here.
        error.write_unraisable(py, Some(this.as_any()));
    }
}

type This<'py> = Bound<'py, Object<Coroutine>>;

fn send<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("send", 1, 1, &[])?;
    let none = this.py().None().into_bound(this.py());
    match this.get().resume(this.py(), &arguments.positional(0).unwrap_or(none))? {
        Sent::Yield(object) => Ok(object),
        Sent::Return(value) => Err(class::stop_iteration(value)),
    }
}

fn throw<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let error = class::thrown("throw", arguments)?;
    Err(this.get().throw(this.py(), error)?)
}

fn close<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    this.get().close(this.py())?;
    none(this)
}

fn await_<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.clone().into_any())
}

fn name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.get().name(this.py()).into_any())
}

fn set_name(this: &This<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let value = string("__name__", value)?;
    let _old = this.get().state.lock().renamed.get_or_insert_default().name.replace(value);
    Ok(())
}

fn qualified_name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.get().qualified_name(this.py()).into_any())
}

fn set_qualified_name(this: &This<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let value = string("__qualname__", value)?;
    let _old = this.get().state.lock().renamed.get_or_insert_default().qualified.replace(value);
    Ok(())
}

fn string(attribute: &str, value: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
    let value = value.cast::<PyString>();
    let value = value.map_err(|_| PyTypeError::new_err(format!("{attribute} must be set to a string object")))?;
    Ok(value.clone().unbind())
}

/// What the coroutine waits for.
fn cr_await<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    match &this.get().state.lock().stage {
        Stage::Suspended(future) => Ok(future.clone_ref(py).into_bound(py).into_any()),
        _ => Ok(py.None().into_bound(py)),
    }
}

fn cr_running<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let running = matches!(this.get().state.lock().stage, Stage::Running);
    Ok(PyBool::new(this.py(), running).to_owned().into_any())
}

fn cr_suspended<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let suspended = matches!(this.get().state.lock().stage, Stage::Suspended(_));
    Ok(PyBool::new(this.py(), suspended).to_owned().into_any())
}

/// There is no Python frame, code or origin.
fn none<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.py().None().into_bound(this.py()))
}
