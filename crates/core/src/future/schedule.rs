//! Python's side of an awaitable: what it is, and how it becomes a task.

use std::sync::OnceLock;

use pyo3::{
    exceptions::{PyKeyboardInterrupt, PySystemExit},
    prelude::*,
    types::{PyDict, PyTuple, PyType},
};

use crate::{
    context,
    event_loop::{Delivery, Resume},
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
/// A task of asyncio's own takes its first step at once, if the loop allows it, so that a coroutine which does not
/// suspend is done when this returns.
pub(super) fn schedule<'py>(
    delivery: &Delivery<'_, 'py>,
    context: &Bound<'py, PyAny>,
    awaitable: Bound<'py, PyAny>,
) -> PyResult<Scheduled<'py>> {
    static ENSURE_FUTURE: PyOnce<Py<PyAny>> = PyOnce::new();

    let (py, event_loop) = (delivery.py, delivery.object);
    if !is_native_coroutine(&awaitable)? {
        let ensure_future = ENSURE_FUTURE.import(py, "asyncio", "ensure_future")?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), event_loop)?;
        let task = context.call_method(intern!(py, "run"), (ensure_future, awaitable), Some(&keywords))?;
        return Ok(Scheduled { task, begun: true });
    }
    // A loop with a way of its own to make tasks shall make this one too.
    if delivery.resume.get() == Resume::Soon || !event_loop.call_method0(intern!(py, "get_task_factory"))?.is_none() {
        let task = context::within(context, || event_loop.call_method1(intern!(py, "create_task"), (awaitable,)))??;
        return Ok(Scheduled { task, begun: false });
    }
    let keywords = keywords(delivery)?;
    if Tasks::of(py) == Tasks::BeginAtOnce {
        keywords.set_item(intern!(py, "context"), context)?;
        let task = begun_task(awaitable, keywords)?;
        return Ok(Scheduled { task, begun: true });
    }
    // A class is called with a tuple and a dictionary of Python's in the end, so they are not taken apart first.
    let arguments = PyTuple::new(py, [awaitable])?;
    let queue = ReadyQueue::of(event_loop)?;
    let task = if Tasks::of(py) == Tasks::TakeContext {
        keywords.set_item(intern!(py, "context"), context)?;
        task_class(py)?.call(arguments, Some(keywords))?
    } else {
        context::within(context, || task_class(py)?.call(arguments, Some(keywords)))??
    };
    let begun = match queue.map(|queue| queue.begin(&task)).transpose() {
        Ok(begun) => begun.unwrap_or(false),
        Err(error) => {
            have_retrieved(&task);
            return Err(error);
        }
    };
    Ok(Scheduled { task, begun })
}

/// How a drain makes its tasks, but for the context of each.
fn keywords<'a, 'py>(delivery: &'a Delivery<'_, 'py>) -> PyResult<&'a Bound<'py, PyDict>> {
    if let Some(keywords) = delivery.of_tasks.get() {
        return Ok(keywords);
    }
    let py = delivery.py;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "loop"), delivery.object)?;
    if Tasks::of(py) == Tasks::BeginAtOnce {
        keywords.set_item(intern!(py, "eager_start"), true)?;
    }
    Ok(delivery.of_tasks.get_or_init(|| keywords))
}

/// What asyncio's class of tasks can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tasks {
    /// Before Python 3.11 they copy the current context.
    CopyContext,
    TakeContext,
    /// From Python 3.12 on they can take their first step when they are made.
    BeginAtOnce,
}

impl Tasks {
    fn of(py: Python<'_>) -> Self {
        static TASKS: OnceLock<Tasks> = OnceLock::new();

        // Python puts its version together each time. Nothing in here lets go of the interpreter.
        *TASKS.get_or_init(|| match py.version_info() {
            version if version >= (3, 12) => Self::BeginAtOnce,
            version if version >= (3, 11) => Self::TakeContext,
            _ => Self::CopyContext,
        })
    }
}

/// asyncio's class of tasks.
fn task_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TASK: PyOnce<Py<PyType>> = PyOnce::new();

    TASK.import(py, "asyncio", "Task")
}

/// Keeps a task from reporting its exception, which the caller gets.
fn have_retrieved(task: &Bound<'_, PyAny>) {
    let _ = task.setattr(intern!(task.py(), "_log_traceback"), false);
}

/// A task that has taken its first step, on Python 3.12 and newer.
///
/// It is made in two steps, so that there is a task also when its first step raises what asyncio lets through
/// (`SystemExit`).
fn begun_task<'py>(awaitable: Bound<'py, PyAny>, keywords: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    static NEW: PyOnce<Py<PyAny>> = PyOnce::new();
    static INIT: PyOnce<Py<PyAny>> = PyOnce::new();

    let py = awaitable.py();
    let class = task_class(py)?;
    let method = |name| Ok(class.getattr(name)?.unbind());
    let task = NEW.get_or_try_init(py, || method("__new__"))?.bind(py).call1((class,))?;
    let init = INIT.get_or_try_init(py, || method("__init__"))?.bind(py);
    match init.call(PyTuple::new(py, [&task, &awaitable])?, Some(keywords)) {
        Ok(_) => Ok(task),
        Err(error) => {
            have_retrieved(&task);
            Err(error)
        }
    }
}

/// What asyncio's own loops call in their next turn.
///
/// Before Python 3.12 a task's first step always waits there. It is the last in the queue when the task has just been
/// made, and to call it at once is what the tasks of newer versions do.
/// This needs asyncio's internals; where a loop has others, or anything is not as expected, the task starts in its
/// turn.
struct ReadyQueue<'py> {
    deque: Bound<'py, PyAny>,
    /// How many callbacks were in it.
    length: usize,
}

impl<'py> ReadyQueue<'py> {
    fn of(event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let Some(deque) = event_loop.getattr_opt(intern!(event_loop.py(), "_ready"))? else { return Ok(None) };
        Ok(deque.len().ok().map(|length| Self { deque, length }))
    }

    /// Takes a new task's first step; false if that is left to the loop.
    fn begin(self, task: &Bound<'py, PyAny>) -> PyResult<bool> {
        let py = task.py();
        if self.deque.len()? != self.length + 1 {
            return Ok(false);
        }
        let step = || -> PyResult<_> {
            let handle = self.deque.get_item(-1)?;
            let alone = !handle.getattr(intern!(py, "_args"))?.is_truthy()?;
            let callback = handle.getattr(intern!(py, "_callback"))?;
            Ok((callback, handle.getattr(intern!(py, "_context"))?, alone))
        };
        let Ok((callback, context, true)) = step() else { return Ok(false) };
        self.deque.call_method0(intern!(py, "pop"))?;
        context::within(&context, || callback.call0())??;
        Ok(true)
    }
}

/// Ends an awaitable whose Rust future was dropped while it was on its way, as if it had arrived before.
pub(super) fn end_unstarted(awaitable: &Bound<'_, PyAny>) -> PyResult<()> {
    static IS_FUTURE: PyOnce<Py<PyAny>> = PyOnce::new();

    let py = awaitable.py();
    if !close_unstarted(awaitable)? && IS_FUTURE.import(py, "asyncio", "isfuture")?.call1((awaitable,))?.is_truthy()? {
        awaitable.call_method0(intern!(py, "cancel"))?;
    }
    Ok(())
}

/// Closes a coroutine that has not been started, and is not to warn that nobody awaited it: somebody did. False when
/// the awaitable is something else.
pub(super) fn close_unstarted(awaitable: &Bound<'_, PyAny>) -> PyResult<bool> {
    static IS_COROUTINE: PyOnce<Py<PyAny>> = PyOnce::new();

    // Those of Rust and of Cython warn too.
    let is_coroutine = is_native_coroutine(awaitable)?
        || IS_COROUTINE.import(awaitable.py(), "asyncio", "iscoroutine")?.call1((awaitable,))?.is_truthy()?;
    if is_coroutine {
        awaitable.call_method0(intern!(awaitable.py(), "close"))?;
    }
    Ok(is_coroutine)
}
