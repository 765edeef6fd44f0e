//! Rust stream -> Python asynchronous iterator.

use std::{
    ffi::CStr,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use pyo3::{
    exceptions::{PyRuntimeError, PyStopAsyncIteration, PyTypeError},
    prelude::*,
    types::{PyBool, PyString, PyType},
};

use super::polled::{self, Operation, Polled};
use crate::{
    class::{self, Arguments, AsyncIterate, Class, Get, Members, Object, Protocol, Visit},
    error,
    lifecycle::Process,
    once::{PyOnce, intern},
    sync::Lock,
    task::Path,
};

/// A Rust stream, as the Python side knows it.
///
/// One operation at a time: whoever calls has the iterator's `running`.
pub(super) trait Source: Send + Sync {
    /// The next item, as a Python object; `None` at the end.
    fn poll_next<'py>(&self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<Option<PyResult<Bound<'py, PyAny>>>>;

    /// Has the stream dropped, and is ready when it is.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<PyResult<()>>;

    /// Has the stream dropped, without waiting for it.
    fn abandon(&self);

    /// The path of the stream's type, or of the function that it was written in.
    fn path(&self) -> Path;
}

/// The contents of the Python object.
pub(super) struct AsyncIterator {
    source: Arc<dyn Source>,
    /// Where it was made: what it refers to is nobody's in another process.
    process: Process,
    /// An operation is under way, as in `ag_running`.
    running: AtomicBool,
    /// It has been asked for an item.
    started: AtomicBool,
    /// It has ended, raised or been closed.
    over: AtomicBool,
    /// The awaitable of the last item. Nearly always nobody else has it when the next is asked for.
    spare: Lock<Option<Py<Object<Polled<Step>>>>>,
}

/// An iterator over a stream that has not been started.
pub(super) fn new(py: Python<'_>, source: Arc<dyn Source>) -> PyResult<Bound<'_, PyAny>> {
    let iterator = AsyncIterator {
        source,
        process: Process::current(),
        running: AtomicBool::new(false),
        started: AtomicBool::new(false),
        over: AtomicBool::new(false),
        spare: Lock::new(None),
    };
    Ok(class::new(py, iterator)?.into_any())
}

impl AsyncIterator {
    fn poll_next<'py>(&self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>> {
        if self.over.load(Ordering::Relaxed) {
            return Poll::Ready(Err(PyStopAsyncIteration::new_err(())));
        }
        let item = ready!(self.source.poll_next(py, cx));
        if !matches!(item, Some(Ok(_))) {
            self.over.store(true, Ordering::Relaxed);
            self.source.abandon();
        }
        Poll::Ready(item.unwrap_or_else(|| Err(PyStopAsyncIteration::new_err(()))))
    }
}

impl Drop for AsyncIterator {
    fn drop(&mut self) {
        if self.process.is_current() {
            self.source.abandon();
        } else {
            mem::forget(Arc::clone(&self.source));
        }
    }
}

/// What is awaited: one of the iterator's methods.
pub(super) struct Step {
    iterator: Py<Object<AsyncIterator>>,
    call: Call,
    /// It has the iterator's `running`.
    begun: bool,
}

enum Call {
    Next,
    /// `asend`, with whether there was something to send. A stream takes nothing.
    Send(bool),
    Close,
    /// `athrow`; the exception is there until it is raised.
    Throw(Option<PyErr>),
}

impl Step {
    fn awaitable<'py>(iterator: &Bound<'py, Object<AsyncIterator>>, call: Call) -> PyResult<Bound<'py, PyAny>> {
        let py = iterator.py();
        let step = Self { iterator: iterator.clone().unbind(), call, begun: false };
        let spare = iterator.get().spare.lock().take();
        let renewed = match spare {
            Some(spare) => polled::renew(spare.into_bound(py), step),
            None => Err(step),
        };
        renewed.or_else(|step| polled::new(py, step))
    }

    /// Makes this the iterator's only operation.
    fn begin(&mut self, py: Python<'_>) -> PyResult<()> {
        let iterator = self.iterator.get();
        if !iterator.process.is_current() {
            return Err(error::forked(&format!("the Rust stream '{}'", self.path().name())));
        }
        // Acquire pairs with the release in `drop`: an operation sees what the one before it did.
        if iterator.running.swap(true, Ordering::Acquire) {
            let name = match self.call {
                Call::Next | Call::Send(_) => "anext",
                Call::Close => "aclose",
                Call::Throw(_) => "athrow",
            };
            let message = format!("{name}(): asynchronous generator is already running");
            return Err(PyRuntimeError::new_err(message));
        }
        self.begun = true;
        match self.call {
            Call::Next | Call::Send(_) if iterator.started.load(Ordering::Relaxed) => Ok(()),
            Call::Send(true) => {
                Err(PyTypeError::new_err("can't send non-None value to a just-started async generator"))
            }
            Call::Next | Call::Send(false) => {
                iterator.started.store(true, Ordering::Relaxed);
                tell_event_loop(self.iterator.bind(py))
            }
            // There is nothing left that it could be thrown into.
            Call::Throw(_) if iterator.over.load(Ordering::Relaxed) => {
                self.call = Call::Close;
                Ok(())
            }
            Call::Close | Call::Throw(_) => Ok(()),
        }
    }
}

/// Has the event loop close the iterator when it shuts its asynchronous generators down.
fn tell_event_loop(iterator: &Bound<'_, Object<AsyncIterator>>) -> PyResult<()> {
    static GET_HOOKS: PyOnce<Py<PyAny>> = PyOnce::new();

    let py = iterator.py();
    let hooks = GET_HOOKS.import(py, "sys", "get_asyncgen_hooks")?.call0()?;
    let first = hooks.getattr(intern!(py, "firstiter"))?;
    if !first.is_none() {
        first.call1((iterator,))?;
    }
    Ok(())
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.begun {
            self.iterator.get().running.store(false, Ordering::Release);
        }
    }
}

impl Operation for Step {
    const TYPE_NAME: &'static CStr = c"pyo3_await.StreamAwaitable";

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    fn call(&self) -> &'static str {
        match self.call {
            Call::Next => "__anext__()",
            Call::Send(_) => "asend()",
            Call::Close => "aclose()",
            Call::Throw(_) => "athrow()",
        }
    }

    fn path(&self) -> Path {
        self.iterator.get().source.path()
    }

    fn poll<'py>(&mut self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>> {
        if !self.begun {
            self.begin(py)?;
        }
        let iterator = self.iterator.get();
        if let Call::Next | Call::Send(_) = self.call {
            return iterator.poll_next(py, cx);
        }
        iterator.over.store(true, Ordering::Relaxed);
        ready!(iterator.source.poll_close(cx))?;
        Poll::Ready(match &mut self.call {
            Call::Throw(error) => Err(error.take().expect("an operation is ready once")),
            _ => Ok(py.None().into_bound(py)),
        })
    }

    fn end(self, awaitable: &Bound<'_, Object<Polled<Self>>>) {
        let _old = self.iterator.get().spare.lock().replace(awaitable.clone().unbind());
    }

    fn traverse(&self, visit: &Visit) {
        visit.call(&self.iterator);
    }
}

impl AsyncIterate for AsyncIterator {
    fn next<'py>(this: &Bound<'py, Object<Self>>) -> PyResult<Bound<'py, PyAny>> {
        Step::awaitable(this, Call::Next)
    }
}

impl Class for AsyncIterator {
    const NAME: &'static CStr = c"pyo3_await.AsyncIterator";

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    fn protocol() -> Protocol {
        Protocol::async_iterator::<Self>()
    }

    fn members() -> Members<Self> {
        Members::new()
            .method_with(c"asend", asend)
            .method_with(c"athrow", athrow)
            .method(c"aclose", aclose)
            .get(c"__name__", name)
            .get(c"__qualname__", qualified_name)
            .get(c"ag_running", running)
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let name = this.get().source.path().qualified_name();
        Ok(format!("<async iterator object {name} at {:p}>", this.as_ptr()))
    }

    /// For the rest it holds Rust values.
    fn traverse(&self, visit: &Visit) {
        if let Some(spare) = self.spare.try_lock() {
            spare.iter().for_each(|spare| visit.call(spare));
        }
    }

    /// The awaitable that is kept refers to nothing.
    fn clear(&self, _: Python<'_>) {}
}

type This<'py> = Bound<'py, Object<AsyncIterator>>;

fn asend<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("asend", 1, 1, &[])?;
    let something = arguments.positional(0).is_some_and(|value| !value.is_none());
    Step::awaitable(this, Call::Send(something))
}

fn athrow<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let error = class::thrown("athrow", arguments)?;
    Step::awaitable(this, Call::Throw(Some(error)))
}

fn aclose<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Step::awaitable(this, Call::Close)
}

fn name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::new(this.py(), this.get().source.path().name()).into_any())
}

fn qualified_name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::new(this.py(), &this.get().source.path().qualified_name()).into_any())
}

fn running<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyBool::new(this.py(), this.get().running.load(Ordering::Relaxed)).to_owned().into_any())
}
