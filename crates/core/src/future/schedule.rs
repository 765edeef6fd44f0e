//! Python's side of an awaitable: what it is, and how it becomes a task.

use pyo3::{
    exceptions::{PyKeyboardInterrupt, PySystemExit},
    prelude::*,
    types::{PyDict, PyType},
};

use crate::{
    context,
    event_loop::Resume,
    once::{PyOnce, intern},
};

/// Whether `await` would take the object.
pub(super) fn is_awaitable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static IS_AWAITABLE: PyOnce<Py<PyAny>> = PyOnce::new();

    Ok(is_native_coroutine(object)?
        || IS_AWAITABLE.import(object.py(), "inspect", "isawaitable")?.call1((object,))?.is_truthy()?)
}

/// Whether the object is what an `async def` function returns.
fn is_native_coroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static COROUTINE: PyOnce<Py<PyType>> = PyOnce::new();

    Ok(object.get_type().is(COROUTINE.import(object.py(), "types", "CoroutineType")?))
}

/// What a task or future that is done has returned or raised.
///
/// An exception is asked for, not raised: PyO3 goes on with a Rust panic whose exception it fetches.
pub(super) fn result(task: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = task.py();
    let error = task.call_method0(intern!(py, "exception"))?;
    if error.is_none() {
        task.call_method0(intern!(py, "result")).map(Bound::unbind)
    } else {
        Err(PyErr::from_value(error))
    }
}

/// Keeps a task whose result nobody wants from reporting an exception that has gone through the loop already.
pub(super) fn forget_what_ends_the_process(task: &Bound<'_, PyAny>) {
    let py = task.py();
    let forget = || -> PyResult<()> {
        // `exception()` would take any exception for retrieved.
        let error = task.getattr(intern!(py, "_exception"))?;
        if error.is_instance_of::<PyKeyboardInterrupt>() || error.is_instance_of::<PySystemExit>() {
            task.setattr(intern!(py, "_log_traceback"), false)?;
        }
        Ok(())
    };
    // A future of another kind than asyncio's own has its own ways.
    let _ = forget();
}

/// What has become of an awaitable.
pub(super) struct Scheduled<'py> {
    pub(super) task: Bound<'py, PyAny>,
    /// It may be done already, as far as can be told without asking.
    pub(super) begun: bool,
}

/// A task or future for the awaitable, which runs in the context.
///
/// On Python 3.12 and newer the task takes its first step at once, so that a coroutine which does not suspend is done
/// when this returns.
pub(super) fn schedule<'py>(
    event_loop: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    awaitable: Bound<'py, PyAny>,
    resume: Resume,
) -> PyResult<Scheduled<'py>> {
    static ENSURE_FUTURE: PyOnce<Py<PyAny>> = PyOnce::new();

    let py = event_loop.py();
    let keywords = || -> PyResult<Bound<'py, PyDict>> {
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), event_loop)?;
        Ok(keywords)
    };
    if !is_native_coroutine(&awaitable)? {
        let ensure_future = ENSURE_FUTURE.import(py, "asyncio", "ensure_future")?;
        let task = context.call_method(intern!(py, "run"), (ensure_future, awaitable), Some(&keywords()?))?;
        return Ok(Scheduled { task, begun: true });
    }
    match eager_task_class(event_loop)? {
        Some(class) if resume == Resume::Now => {
            let keywords = keywords()?;
            keywords.set_item(intern!(py, "context"), context)?;
            keywords.set_item(intern!(py, "eager_start"), true)?;
            // In two steps, so that there is a task also when its first step raises what asyncio lets through
            // (`SystemExit`): whoever gets it now has retrieved it.
            let task = class.call_method1(intern!(py, "__new__"), (class,))?;
            if let Err(error) = task.call_method(intern!(py, "__init__"), (awaitable,), Some(&keywords)) {
                let _ = task.setattr(intern!(py, "_log_traceback"), false);
                return Err(error);
            }
            Ok(Scheduled { task, begun: true })
        }
        _ => {
            let task = context::within(context, || event_loop.call_method1(intern!(py, "create_task"), (awaitable,)))??;
            Ok(Scheduled { task, begun: false })
        }
    }
}

/// asyncio's class of tasks, if its tasks can start eagerly and the loop has no way of its own to make tasks.
fn eager_task_class<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Option<&'py Bound<'py, PyType>>> {
    static TASK: PyOnce<Option<Py<PyType>>> = PyOnce::new();

    let py = event_loop.py();
    let find = || -> PyResult<Option<Py<PyType>>> {
        if py.version_info() < (3, 12) {
            return Ok(None);
        }
        Ok(Some(py.import(intern!(py, "asyncio"))?.getattr(intern!(py, "Task"))?.cast_into::<PyType>()?.unbind()))
    };
    let Some(class) = TASK.get_or_try_init(py, find)? else { return Ok(None) };
    let factory = event_loop.call_method0(intern!(py, "get_task_factory"))?;
    Ok(factory.is_none().then(|| class.bind(py)))
}

/// Ends an awaitable whose Rust future was dropped while it was on its way, as if it had arrived before.
pub(super) fn end_unstarted(awaitable: &Bound<'_, PyAny>) -> PyResult<()> {
    static IS_FUTURE: PyOnce<Py<PyAny>> = PyOnce::new();

    let py = awaitable.py();
    if is_native_coroutine(awaitable)? {
        // It has not been started, and is not to warn that nobody awaited it: somebody did.
        awaitable.call_method0(intern!(py, "close"))?;
    } else if IS_FUTURE.import(py, "asyncio", "isfuture")?.call1((awaitable,))?.is_truthy()? {
        awaitable.call_method0(intern!(py, "cancel"))?;
    }
    Ok(())
}
