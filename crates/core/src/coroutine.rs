//! Rust future -> Python coroutine.

use std::{
    ffi::{CStr, CString},
    fmt, mem,
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
    path::Path,
    sync::SpinLock,
    task::{self, Polled, Start},
};

/// The contents of the Python object.
pub(crate) struct Coroutine(SpinLock<State>);

struct State {
    stage: Stage,
    /// The names that Python code has set.
    renamed: Option<Box<Names>>,
}

/// Each knows where the coroutine has its names from: another field would make all coroutines larger.
enum Stage {
    /// Nothing has happened yet. A task that was not started in one process is nobody's in another.
    Created(Arc<dyn Start>, Process),
    /// A step is under way: another `send`, `throw` or `close` is refused.
    Running(Path),
    /// The Rust future runs, and the waiter was yielded.
    Suspended(Py<Object<AsyncioFuture>>, Path),
    /// It has returned, raised or been closed.
    Closed(Path),
}

/// Python lets its coroutines be renamed. Hardly anybody does, so there is nothing here but on demand.
#[derive(Default)]
struct Names {
    name: Option<Py<PyString>>,
    qualified: Option<Py<PyString>>,
}

/// A coroutine for a task that has not been started.
pub(crate) fn new(py: Python<'_>, task: Arc<dyn Start>) -> PyResult<Bound<'_, PyAny>> {
    let state = State { stage: Stage::Created(task, Process::current()), renamed: None };
    Ok(class::new(py, Coroutine(SpinLock::new(state)))?.into_any())
}

/// The right to step a coroutine, which is running for that long.
struct Step<'a, 'py> {
    py: Python<'py>,
    coroutine: &'a Coroutine,
    /// What comes after it. Until it is known to go on, it is closed: so it stays when the step fails.
    next: Stage,
}

impl<'a, 'py> Step<'a, 'py> {
    /// Begins a step, and gives the stage that the coroutine was in.
    fn begin(py: Python<'py>, coroutine: &'a Coroutine) -> PyResult<(Self, Stage)> {
        let mut state = coroutine.0.lock(py);
        let path = state.stage.path();
        let stage = mem::replace(&mut state.stage, Stage::Running(path));
        drop(state);
        if let Stage::Running(_) = stage {
            return Err(PyValueError::new_err("coroutine already executing"));
        }
        Ok((Self { py, coroutine, next: Stage::Closed(path) }, stage))
    }
}

impl Drop for Step<'_, '_> {
    fn drop(&mut self) {
        mem::swap(&mut self.coroutine.0.lock(self.py).stage, &mut self.next);
    }
}

impl Coroutine {
    fn resume<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        let (mut step, stage) = Step::begin(py, self)?;
        match stage {
            Stage::Created(task, process) => {
                if !value.is_none() {
                    step.next = Stage::Created(task, process);
                    return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
                }
                if !process.is_current() {
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
            Stage::Suspended(future, path) => {
                let future = future.into_bound(py);
                if let Some(result) = future.get().result(py) {
                    return result.map(Sent::Return);
                }
                if future.get().is_awaited(py) {
                    // The task that it has been yielded to comes back when it is done.
                    step.next = Stage::Suspended(future.unbind(), path);
                    return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
                }
                step.go_on(future)
            }
            Stage::Running(_) | Stage::Closed(_) => {
                Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"))
            }
        }
    }

    /// Raises `error` where the coroutine is suspended: the Rust future cannot catch it, so that is its end.
    fn throw(&self, py: Python<'_>, error: PyErr) -> PyResult<PyErr> {
        let (_step, stage) = Step::begin(py, self)?;
        if let Stage::Closed(_) = stage {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
        }
        stage.abandon(py);
        Ok(error::not_stop_iteration(py, error))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (_step, stage) = Step::begin(py, self)?;
        stage.abandon(py);
        Ok(())
    }

    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let state = self.0.lock(py);
        let (path, set) = (state.stage.path(), state.renamed.as_ref().and_then(|names| names.name.as_ref()));
        let set = set.map(|name| name.bind(py).clone());
        drop(state);
        set.unwrap_or_else(|| PyString::new(py, path.name()))
    }

    fn qualified_name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let state = self.0.lock(py);
        let (path, set) = (state.stage.path(), state.renamed.as_ref().and_then(|names| names.qualified.as_ref()));
        let set = set.map(|name| name.bind(py).clone());
        drop(state);
        set.unwrap_or_else(|| PyString::new(py, &path.qualified_name()))
    }

    fn state_name(&self, py: Python<'_>) -> &'static str {
        match &self.0.lock(py).stage {
            Stage::Created(..) => "created",
            Stage::Running(_) => "running",
            Stage::Suspended(..) => "suspended",
            Stage::Closed(_) => "closed",
        }
    }
}

impl<'py> Step<'_, 'py> {
    fn go_on(&mut self, future: Bound<'py, Object<AsyncioFuture>>) -> PyResult<Sent<'py>> {
        match AsyncioFuture::resume(&future) {
            Ok(Sent::Yield(object)) => {
                self.next = Stage::Suspended(future.unbind(), self.next.path());
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

    fn members(py: Python<'_>) -> Members<Self> {
        let members = Members::new()
            .method_with(c"send", send)
            .method_with(c"throw", throw)
            .method(c"close", close)
            .method(c"__await__", await_)
            .get_set(c"__name__", name, set_name)
            .get_set(c"__qualname__", qualified_name, set_qualified_name)
            .get(c"cr_running", cr_running)
            .get(c"cr_suspended", cr_suspended)
            .get(c"cr_frame", none)
            .get(c"cr_code", none)
            .get(c"cr_origin", none);
        // Since 3.14 asyncio's call graphs want a frame of whatever has this.
        if py.version_info() < (3, 14) { members.get(c"cr_await", cr_await) } else { members }
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let coroutine = this.get();
        let name = coroutine.qualified_name(this.py());
        Ok(format!("<coroutine object {name} {} at {:p}>", coroutine.state_name(this.py()), this.as_ptr()))
    }

    fn traverse(&self, visit: &Visit) {
        if let Some(state) = self.0.try_lock(visit.attached()) {
            if let Stage::Suspended(future, _) = &state.stage {
                visit.call(future);
            }
        }
    }

    fn clear(&self, py: Python<'_>) {
        let mut state = self.0.lock(py);
        if let Stage::Suspended(..) = state.stage {
            let closed = Stage::Closed(state.stage.path());
            let old = mem::replace(&mut state.stage, closed);
            drop(state);
            old.abandon(py);
        }
    }

    fn has_last_words(&mut self) -> bool {
        matches!(self.0.get_mut().stage, Stage::Created(..))
    }

    fn is_empty(&mut self) -> bool {
        matches!(self.0.get_mut(), State { stage: Stage::Closed(_), renamed: None })
    }

    fn finalize(this: &Bound<'_, Object<Self>>) {
        // In a forked child nobody was to await it.
        let to_await = matches!(this.get().0.lock(this.py()).stage, Stage::Created(_, process) if process.is_current());
        if to_await {
            warn_never_awaited(this.as_any(), this.get().qualified_name(this.py()));
        }
    }
}

impl Stage {
    /// Where the names come from.
    fn path(&self) -> Path {
        match self {
            Self::Created(task, _) => task.path(),
            Self::Running(path) | Self::Suspended(_, path) | Self::Closed(path) => *path,
        }
    }

    /// Ends what has been started, and what has not.
    fn abandon(self, py: Python<'_>) {
        match self {
            Self::Suspended(future, _) => future.get().abandon(py),
            // What it refers to may be another process's runtime.
            Self::Created(task, process) if !process.is_current() => mem::forget(task),
            Self::Created(..) | Self::Running(_) | Self::Closed(_) => {}
        }
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        let state = self.0.get_mut();
        if let Stage::Created(..) | Stage::Suspended(..) = state.stage {
            let closed = Stage::Closed(state.stage.path());
            let stage = mem::replace(&mut state.stage, closed);
            // A Python object is dropped attached.
            Python::try_attach(|py| stage.abandon(py));
        }
    }
}

/// Python's own warning.
pub(crate) fn warn_never_awaited(awaitable: &Bound<'_, PyAny>, name: impl fmt::Display) {
    let py = awaitable.py();
    let warn = || -> PyResult<()> {
        let message = CString::new(format!("coroutine '{name}' was never awaited"))?;
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)
    };
    if let Err(error) = warn() {
        // `-W error` makes the warning an exception, which nobody can catch here.
        error.write_unraisable(py, Some(awaitable));
    }
}

type This<'py> = Bound<'py, Object<Coroutine>>;

fn send<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("send", 1, 1, &[])?;
    let none = this.py().None().into_bound(this.py());
    this.get().resume(this.py(), &arguments.positional(0).unwrap_or(none))?.into_result()
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
    let _old = this.get().0.lock(this.py()).renamed.get_or_insert_default().name.replace(value);
    Ok(())
}

fn qualified_name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.get().qualified_name(this.py()).into_any())
}

fn set_qualified_name(this: &This<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let value = string("__qualname__", value)?;
    let _old = this.get().0.lock(this.py()).renamed.get_or_insert_default().qualified.replace(value);
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
    match &this.get().0.lock(this.py()).stage {
        Stage::Suspended(future, _) => Ok(future.clone_ref(py).into_bound(py).into_any()),
        _ => Ok(py.None().into_bound(py)),
    }
}

fn cr_running<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let running = matches!(this.get().0.lock(this.py()).stage, Stage::Running(_));
    Ok(PyBool::new(this.py(), running).to_owned().into_any())
}

fn cr_suspended<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let suspended = matches!(this.get().0.lock(this.py()).stage, Stage::Suspended(..));
    Ok(PyBool::new(this.py(), suspended).to_owned().into_any())
}

/// There is no Python frame, code or origin.
fn none<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.py().None().into_bound(this.py()))
}
