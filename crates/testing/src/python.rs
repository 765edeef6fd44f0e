//! The Python side, by its functions.

use std::{ffi::CString, sync::mpsc};

use pyo3::{
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};
use pyo3_await::{PythonFuture, TaskLocals};

/// The module `tasks.py`, and the event loop that it watches.
#[derive(Debug)]
pub(crate) struct Tasks {
    module: Py<PyModule>,
    locals: TaskLocals,
}

/// What an async test needs of Python, made beforehand: neither the thread that starts it nor the runtime's has to
/// attach then, where another test may be in the way.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The event loop, and a context of the test's own.
    pub(crate) locals: TaskLocals,
    pub(crate) mark: Mark,
    /// Cancels the Python tasks that the test has left behind, and sends what they were.
    pub(crate) clean_up: PythonFuture,
    pub(crate) left: mpsc::Receiver<String>,
}

/// The object that stands for one test.
#[derive(Debug)]
pub(crate) struct Mark(Py<PyAny>);

type Arguments<'py> = Bound<'py, PyTuple>;
type Keywords<'py> = Bound<'py, PyDict>;

impl Tasks {
    /// Starts to watch the current event loop.
    pub(crate) fn watch(py: Python<'_>) -> PyResult<Self> {
        let locals = TaskLocals::current(py)?;
        let code = CString::new(include_str!("tasks.py"))?;
        let module = PyModule::from_code(py, &code, c"tasks.py", c"pyo3_await_testing_tasks")?;
        module.call_method1("watch", (locals.event_loop(py)?,))?;
        Ok(Self { module: module.unbind(), locals })
    }

    /// A place for one test, with a copy of the current context.
    pub(crate) fn seat(&self, py: Python<'_>) -> PyResult<Seat> {
        let module = self.module.bind(py);
        let pair = module.call_method1("new_context", (self.locals.context(py),))?;
        let (context, mark): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
        let (sender, left) = mpsc::channel();
        let tell =
            PyCFunction::new_closure(py, None, None, move |arguments: &Arguments<'_>, _: Option<&Keywords<'_>>| {
                // Whoever has started the test may have stopped waiting.
                let _ = sender.send(arguments.get_item(0)?.extract::<String>()?);
                PyResult::Ok(())
            })?;
        let clean_up = self.locals.into_future(module.getattr("CleanUp")?.call1((&mark, tell))?)?;
        Ok(Seat { locals: self.locals.with_context(context), mark: Mark(mark.unbind()), clean_up, left })
    }

    /// Has the loop's thread answer, as soon as it can.
    pub(crate) fn call_back(&self, py: Python<'_>, sender: mpsc::Sender<()>) -> PyResult<()> {
        let callback = PyCFunction::new_closure(py, None, None, move |_: &Arguments<'_>, _: Option<&Keywords<'_>>| {
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
        // Before Python 3.12 the value of an error that was not caught does not have its traceback yet.
        let error = error.clone_ref(py).into_value(py);
        let lines = traceback.call_method1("format_exception", (error,))?;
        lines.extract::<Vec<String>>()
    });
    lines.map_or_else(|_| error.to_string(), |lines| lines.concat().trim_end().to_owned())
}
