//! What an asynchronous iterator's methods give to be awaited.

use std::{
    ffi::CStr,
    mem,
    task::{Context, Poll, ready},
};

use pyo3::{
    exceptions::{PyBaseException, PyRuntimeError, PyTypeError},
    prelude::*,
    types::PyType,
};

use super::{
    into_python::AsyncIterator,
    polled::{self, Operation, Polled},
};
use crate::{
    class::{Get, Object, Visit},
    error,
    once::{PyOnce, intern},
    path::Path,
};

/// What is awaited: one of the iterator's methods.
///
/// One is made for each item, so it is small.
pub(super) struct Step {
    iterator: Py<Object<AsyncIterator>>,
    call: Call,
    /// Once it is awaited, unless it ends at once.
    turn: Option<Turn>,
}

pub(super) enum Call {
    Next,
    /// `asend`, with whether there was something to send. A stream takes nothing.
    Send(bool),
    Close,
    /// `athrow`; the exception is there until it is raised.
    Throw(Option<Py<PyBaseException>>),
}

/// The right to be an iterator's only operation, as in `ag_running`.
struct Turn(Py<Object<AsyncIterator>>);

impl Step {
    /// An awaitable for a call.
    pub(super) fn awaitable<'py>(
        iterator: &Bound<'py, Object<AsyncIterator>>,
        call: Call,
    ) -> PyResult<Bound<'py, PyAny>> {
        let step = Self { iterator: iterator.clone().unbind(), call, turn: None };
        polled::new(iterator.py(), step)
    }

    /// The awaitable of the last item, for the next one. Nearly always nobody else has it.
    ///
    /// As with [`Polled::at_hand`], this is done without precautions.
    pub(super) fn next_at_hand<'py>(iterator: &Bound<'py, Object<AsyncIterator>>) -> Option<Bound<'py, PyAny>> {
        let AsyncIterator { process, state, .. } = iterator.get();
        // In another process nobody can tell who has the lock.
        if !process.is_current() {
            return None;
        }
        let spare = state.lock(iterator.py()).spare.take()?;
        let step = || Self { iterator: iterator.clone().unbind(), call: Call::Next, turn: None };
        polled::renew(spare.into_bound(iterator.py()), step)
    }

    /// Makes this the iterator's only operation.
    fn begin(&mut self, py: Python<'_>) -> PyResult<()> {
        let iterator = self.iterator.get();
        if !iterator.process.is_current() {
            return Err(error::forked(&format!("the Rust stream '{}'", self.path().name())));
        }
        iterator.source.check_thread()?;
        if mem::replace(&mut iterator.state.lock(py).running, true) {
            let name = match self.call {
                Call::Next | Call::Send(_) => "anext",
                Call::Close => "aclose",
                Call::Throw(_) => "athrow",
            };
            let message = format!("{name}(): asynchronous generator is already running");
            return Err(PyRuntimeError::new_err(message));
        }
        self.turn = Some(Turn(self.iterator.clone_ref(py)));
        let (started, over) = iterator.progress(py);
        match self.call {
            Call::Next | Call::Send(_) if started => Ok(()),
            Call::Send(true) if !over => {
                Err(PyTypeError::new_err("can't send non-None value to a just-started async generator"))
            }
            Call::Next | Call::Send(_) => {
                if !over {
                    iterator.source.start(py)?;
                }
                iterator.state.lock(py).started = true;
                tell_event_loop(self.iterator.bind(py))
            }
            // There is nothing left that it could be thrown into.
            Call::Throw(_) if over => {
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

impl Drop for Turn {
    fn drop(&mut self) {
        let AsyncIterator { process, state, .. } = self.0.get();
        if process.is_current() {
            // It holds a Python object, which is dropped attached.
            Python::try_attach(|py| state.lock(py).running = false);
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

    fn at_hand<'py>(&self, awaitable: &Bound<'py, Object<Polled<Self>>>) -> Option<Bound<'py, PyAny>> {
        let Call::Next = self.call else { return None };
        let AsyncIterator { process, state, .. } = self.iterator.get();
        if !process.is_current() {
            return None;
        }
        let mut state = state.lock(awaitable.py());
        if state.running {
            return None;
        }
        let item = state.ahead.items.pop_front()?;
        if state.spare.is_none() {
            state.spare = Some(awaitable.clone().unbind());
        }
        Some(item.into_bound(awaitable.py()))
    }

    fn let_go(self, py: Python<'_>) {
        drop(self.iterator.into_bound(py));
    }

    fn poll<'py>(&mut self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>> {
        if self.turn.is_none() {
            self.begin(py)?;
        }
        let iterator = self.iterator.get();
        if let Call::Next | Call::Send(_) = self.call {
            return iterator.poll_next(py, cx);
        }
        ready!(iterator.poll_close(py, cx))?;
        Poll::Ready(match &mut self.call {
            Call::Throw(error) => {
                let error = error.take().expect("an operation is ready once");
                Err(error::not_stop_async_iteration(py, error::of_object(py, error)))
            }
            _ => Ok(py.None().into_bound(py)),
        })
    }

    fn end(self, awaitable: &Bound<'_, Object<Polled<Self>>>) {
        if !self.iterator.get().process.is_current() {
            return;
        }
        let spare = awaitable.clone().unbind();
        let _old = self.iterator.get().state.lock(awaitable.py()).spare.replace(spare);
    }

    fn traverse(&self, visit: &Visit) {
        visit.call(&self.iterator);
        if let Call::Throw(Some(error)) = &self.call {
            visit.call(error);
        }
        if let Some(Turn(iterator)) = &self.turn {
            visit.call(iterator);
        }
    }
}
