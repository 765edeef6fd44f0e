//! The Python side, by its functions.

use std::{ffi::CString, sync::mpsc};

use pyo3::{
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};
use pyo3_await::TaskLocals;

/// The module `tasks.py`, and the event loop that it watches.
#[derive(Debug)]
pub(crate) struct Tasks {
    module: Py<PyModule>,
    locals: TaskLocals,
}

/// The object that stands for one test.
#[derive(Debug)]
pub(crate) struct Mark(Py<PyAny>);

impl Tasks {
    /// Starts to watch the current event loop.
    pub(crate) fn watch(py: Python<'_>) -> PyResult<Self> {
        let locals = TaskLocals::current(py)?;
        let code = CString::new(include_str!("tasks.py"))?;
        let module = PyModule::from_code(py, &code, c"tasks.py", c"pyo3_await_testing_tasks")?;
        module.call_method1("watch", (locals.event_loop(py)?,))?;
        Ok(Self { module: module.unbind(), locals })
    }

    /// Locals with a context of their own, and what marks the tasks that will be made in it.
    pub(crate) fn locals(&self, py: Python<'_>) -> PyResult<(TaskLocals, Mark)> {
        let pair = self.module.bind(py).call_method1("new_context", (self.locals.context(py),))?;
        let (context, mark): (Bound<'_, PyAny>, Py<PyAny>) = pair.extract()?;
        Ok((self.locals.with_context(context), Mark(mark)))
    }

    /// Cancels the tasks that a test has left behind, and describes them.
    pub(crate) async fn clean_up(&self, mark: &Mark) -> PyResult<Vec<String>> {
        let left = Python::attach(|py| {
            let coroutine = self.module.bind(py).call_method1("clean_up", (&mark.0,))?;
            self.locals.into_future(coroutine)
        })?;
        let left = left.await?;
        Python::attach(|py| left.extract(py))
    }

    /// Has the loop's thread answer, as soon as it can.
    pub(crate) fn call_back(&self, py: Python<'_>, sender: mpsc::Sender<()>) -> PyResult<()> {
        let callback =
            PyCFunction::new_closure(py, None, None, move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                // Whoever asked may have stopped waiting.
                let _ = sender.send(());
            })?;
        self.locals.event_loop(py)?.call_method1("call_soon_threadsafe", (callback,))?;
        Ok(())
    }

    /// The mark of the task that the loop is running, or `None` in Python, and the stack of the loop's thread.
    pub(crate) fn current<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, String)> {
        self.module.bind(py).call_method1("current", (self.locals.event_loop(py)?,))?.extract()
    }
}

impl Mark {
    pub(crate) fn is(&self, other: &Bound<'_, PyAny>) -> bool {
        self.0.is(other)
    }
}

/// The text that Python writes for an exception.
pub(crate) fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let lines = py.import("traceback").and_then(|traceback| {
        let lines = traceback.call_method1("format_exception", (error.value(py),))?;
        lines.extract::<Vec<String>>()
    });
    lines.map_or_else(|_| error.to_string(), |lines| lines.concat().trim_end().to_owned())
}
