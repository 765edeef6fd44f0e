//! An awaitable that is polled by the task that awaits it.
//!
//! Each step of the task polls the operation once, where it is.
//! What is ready at once costs no trip and no switch of tasks; and since an operation gives its result to nobody but a
//! task that runs, a cancellation never comes between a result and its receiver.
//!
//! When the operation has to wait, the task waits for an [`Alarm`], which is the operation's waker.

use std::{
    ffi::CStr,
    mem,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyType};

use super::alarm::{Abandon, Alarm, Waiting};
use crate::{
    asyncio_future::AsyncioFuture,
    class::{self, Arguments, Awaitable, Class, Get, Members, Object, Protocol, Sent, Visit},
    coroutine::warn_never_awaited,
    lifecycle,
    once::PyOnce,
    path::Path,
    sync::SpinLock,
};

/// What a [`Polled`] does. To drop it is to cancel it.
pub(super) trait Operation: Send + Sized + 'static {
    /// The full name of the awaitable's Python type.
    const TYPE_NAME: &'static CStr;

    /// Where the type object is kept.
    fn type_object() -> &'static PyOnce<Py<PyType>>;

    /// Whether any of them loses something when nobody awaits it; else there is no finalizer.
    const MUST_BE_AWAITED: bool = false;

    /// The method's name, if this one does: then Python is warned.
    fn must_be_awaited(&self) -> Option<&'static str> {
        None
    }

    /// What the user has called.
    fn call(&self) -> &'static str;

    /// The full path of the Rust function or type that it is about.
    fn path(&self) -> Path;

    /// The result, if it is there, and nobody's code has a part in it: see [`Awaitable::at_hand`].
    ///
    /// Asked for before the first poll. The operation is over by it, and `awaitable` has no more use for it.
    fn at_hand<'py>(&self, _awaitable: &Bound<'py, Object<Polled<Self>>>) -> Option<Bound<'py, PyAny>> {
        None
    }

    /// Drops it after that, on a thread of which PyO3 need not know that it is attached.
    fn let_go(self, _: Python<'_>) {}

    /// Goes on, on the event loop's thread. Not called again after it was ready.
    fn poll<'py>(&mut self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>>;

    /// What ends by itself as soon as nobody can poll it any more; else that is when the awaitable is dropped.
    fn waits(&self) -> Option<Weak<dyn Abandon>> {
        None
    }

    /// It is over, having been polled to its end: `awaitable`, which somebody still holds, has no more use for it.
    fn end(self, _awaitable: &Bound<'_, Object<Polled<Self>>>) {}

    /// See [`Class::traverse`].
    fn traverse(&self, visit: &Visit);
}

/// The contents of the Python object. A step takes the stage out, so that there is one at a time.
pub(super) struct Polled<O>(SpinLock<Stage<O>>);

enum Stage<O> {
    /// Not awaited yet: nothing has happened.
    New(O),
    /// The future of `Waiting` was yielded.
    Suspended(O, Waiting),
    /// It has returned, raised or been closed; or it is being polled.
    Over,
}

impl<O: Operation> Stage<O> {
    fn must_be_awaited(&self) -> Option<&'static str> {
        if let Self::New(operation) = self { operation.must_be_awaited() } else { None }
    }
}

/// An awaitable for an operation.
pub(super) fn new<O: Operation>(py: Python<'_>, operation: O) -> PyResult<Bound<'_, PyAny>> {
    Ok(class::new(py, Polled(SpinLock::new(Stage::New(operation))))?.into_any())
}

/// Makes an awaitable that is over stand for another operation, if nobody but the caller has a reference to it.
pub(super) fn renew<'py, O: Operation>(
    mut awaitable: Bound<'py, Object<Polled<O>>>,
    operation: impl FnOnce() -> O,
) -> Option<Bound<'py, PyAny>> {
    // First the place: without one no operation is made, which would be dropped where PyO3 must not be told of it.
    let stage = class::get_mut(&mut awaitable)?.0.get_mut();
    *stage = Stage::New(operation());
    Some(awaitable.into_any())
}

impl<O: Operation> Polled<O> {
    fn resume<'py>(this: &Bound<'py, Object<Self>>) -> PyResult<Sent<'py>> {
        let py = this.py();
        let polled = this.get();
        let (mut operation, alarm) = match polled.replace(py, Stage::Over) {
            Stage::New(mut operation) => {
                // Nearly always it is ready; then nobody has to be woken.
                if let Poll::Ready(result) = operation.poll(py, &mut Context::from_waker(Waker::noop())) {
                    operation.end(this);
                    return result.map(Sent::Return);
                }
                let alarm = Alarm::new(py, operation.path(), operation.call(), operation.waits())?;
                (operation, alarm)
            }
            Stage::Suspended(operation, waiting) => {
                let future = waiting.future().bind(py).clone();
                let Some(result) = future.get().result(py) else {
                    polled.replace(py, Stage::Suspended(operation, waiting));
                    return AsyncioFuture::resume(&future);
                };
                result?;
                (operation, Arc::clone(waiting.alarm()))
            }
            Stage::Over => {
                let reused = "cannot reuse an awaitable that was awaited already: call the method again";
                return Err(PyRuntimeError::new_err(reused));
            }
        };
        // When the interpreter is ending nobody would wake the task.
        let _pass = lifecycle::admit(py)?;
        alarm.letter.reset();
        let waker = Waker::from(Arc::clone(&alarm));
        if let Poll::Ready(result) = operation.poll(py, &mut Context::from_waker(&waker)) {
            operation.end(this);
            return result.map(Sent::Return);
        }
        let waiting = Waiting::new(py, alarm)?;
        let future = waiting.future().bind(py).clone();
        polled.replace(py, Stage::Suspended(operation, waiting));
        AsyncioFuture::resume(&future)
    }

    fn replace(&self, py: Python<'_>, stage: Stage<O>) -> Stage<O> {
        mem::replace(&mut *self.0.lock(py), stage)
    }
}

impl<O: Operation> Awaitable for Polled<O> {
    fn send<'py>(this: &Bound<'py, Object<Self>>, _: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        Self::resume(this)
    }

    fn at_hand<'py>(this: &Bound<'py, Object<Self>>) -> Option<Bound<'py, PyAny>> {
        let mut stage = this.get().0.lock(this.py());
        let Stage::New(operation) = &*stage else { return None };
        let result = operation.at_hand(this)?;
        let over = mem::replace(&mut *stage, Stage::Over);
        drop(stage);
        if let Stage::New(operation) = over {
            operation.let_go(this.py());
        }
        Some(result)
    }
}

impl<O: Operation> Class for Polled<O> {
    const NAME: &'static CStr = O::TYPE_NAME;
    const FINALIZES: bool = O::MUST_BE_AWAITED;

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        O::type_object()
    }

    fn protocol() -> Protocol {
        Protocol::awaitable::<Self>()
    }

    fn members(_: Python<'_>) -> Members<Self> {
        Members::new()
            .method_with(c"send", send)
            .method_with(c"throw", throw)
            .method(c"close", close)
            .method(c"__await__", await_)
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        let (call, path) = match &*this.get().0.lock(this.py()) {
            Stage::New(operation) | Stage::Suspended(operation, _) => (operation.call(), operation.path()),
            Stage::Over => return Ok(format!("<awaitable that is over at {:p}>", this.as_ptr())),
        };
        Ok(format!("<awaitable {call} of {} at {:p}>", path.qualified_name(), this.as_ptr()))
    }

    fn traverse(&self, visit: &Visit) {
        let Some(stage) = self.0.try_lock(visit.attached()) else { return };
        match &*stage {
            Stage::New(operation) => operation.traverse(visit),
            Stage::Suspended(operation, waiting) => {
                operation.traverse(visit);
                visit.call(waiting.future());
            }
            Stage::Over => {}
        }
    }

    fn has_last_words(&mut self) -> bool {
        self.0.get_mut().must_be_awaited().is_some()
    }

    fn is_empty(&mut self) -> bool {
        matches!(self.0.get_mut(), Stage::Over)
    }

    fn finalize(this: &Bound<'_, Object<Self>>) {
        let name = this.get().0.lock(this.py()).must_be_awaited();
        if let Some(name) = name {
            warn_never_awaited(this.as_any(), name);
        }
    }

    fn clear(&self, py: Python<'_>) {
        drop(self.replace(py, Stage::Over));
    }
}

type This<'py, O> = Bound<'py, Object<Polled<O>>>;

fn send<'py, O: Operation>(this: &This<'py, O>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("send", 1, 1, &[])?;
    Polled::resume(this)?.into_result()
}

/// The Rust side cannot catch what is thrown: that is the operation's end.
fn throw<'py, O: Operation>(this: &This<'py, O>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let error = class::thrown("throw", arguments)?;
    drop(this.get().replace(this.py(), Stage::Over));
    Err(error)
}

fn close<'py, O: Operation>(this: &This<'py, O>) -> PyResult<Bound<'py, PyAny>> {
    drop(this.get().replace(this.py(), Stage::Over));
    Ok(this.py().None().into_bound(this.py()))
}

fn await_<'py, O: Operation>(this: &This<'py, O>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.clone().into_any())
}
