//! What Python awaits of a channel.

use std::{
    ffi::CStr,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use pyo3::{prelude::*, types::PyType};

use crate::{
    class::{PendingException, Visit},
    error,
    lifecycle::Process,
    once::PyOnce,
    panic,
    path::Path,
    stream::{
        alarm::Abandon,
        into_python::item_into_python,
        polled::{self, Operation},
    },
    sync::Lock,
};

/// What belongs to the process in which it was made. In a forked child it is not used, nor dropped: the other end, and
/// who waits for it, are the parent's.
pub(super) struct Own<T> {
    process: Process,
    /// `None` while it is dropped.
    value: Option<T>,
}

impl<T> Own<T> {
    pub(super) fn new(value: T) -> Self {
        Self { process: Process::current(), value: Some(value) }
    }

    /// # Errors
    ///
    /// `RuntimeError` in a forked child.
    pub(super) fn get(&self) -> PyResult<&T> {
        let here = self.value.as_ref().filter(|_| self.process.is_current());
        here.ok_or_else(|| error::forked("the channel"))
    }

    /// Drops it, as one of PyO3's objects is deallocated: what nobody has received goes with the last end of a channel,
    /// and its drop is the user's code.
    pub(super) fn release(&mut self) {
        let value = self.value.take();
        if !self.process.is_current() {
            return mem::forget(value);
        }
        // Python deallocates an object attached; there may be an exception on its way.
        Python::try_attach(|py| {
            let _pending = PendingException::set_aside(py);
            panic::catch_or_report(py, || drop(value));
        });
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if !self.process.is_current() {
            mem::forget(self.value.take());
        }
    }
}

/// The call that has something to lose.
pub(super) const SEND: &str = "send()";

/// What is awaited: one call of a method.
struct Call {
    name: &'static str,
    wait: Own<Arc<dyn Wait>>,
}

/// The wait for room or for an item, for one type of items.
trait Wait: Abandon {
    fn poll<'py>(&self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>>;
    fn downgrade(self: Arc<Self>) -> Weak<dyn Abandon>;
}

/// The future behind a call. Nothing while it is polled, and when it is over or abandoned.
struct WaitFor<T>(Lock<Option<BoxFuture<T>>>);

type BoxFuture<T> = Pin<Box<dyn Future<Output = PyResult<T>> + Send>>;

/// An awaitable for a call.
pub(super) fn awaitable<'py, T>(
    py: Python<'py>,
    name: &'static str,
    future: impl Future<Output = PyResult<T>> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>>
where
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    polled::new(py, Call { name, wait: Own::new(Arc::new(WaitFor(Lock::new(Some(Box::pin(future)))))) })
}

impl<T> Wait for WaitFor<T>
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn poll<'py>(&self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>> {
        let Some(mut future) = self.0.lock().take() else { return Poll::Ready(Err(error::event_loop_closed())) };
        let Poll::Ready(result) = future.as_mut().poll(cx) else {
            *self.0.lock() = Some(future);
            return Poll::Pending;
        };
        Poll::Ready(result.and_then(|item| item_into_python(py, item)))
    }

    fn downgrade(self: Arc<Self>) -> Weak<dyn Abandon> {
        Arc::<Self>::downgrade(&self)
    }
}

impl<T: Send> Abandon for WaitFor<T> {
    fn abandon(&self) {
        let future = self.0.lock().take();
        // A panic has nobody to go to.
        let _ = panic::catch(|| drop(future));
    }
}

impl Operation for Call {
    const TYPE_NAME: &'static CStr = c"pyo3_await.ChannelAwaitable";
    const MUST_BE_AWAITED: bool = true;

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    /// The item of a `send` would be lost without a word; what is not received stays where it is. In a forked child
    /// nobody was to await it.
    fn must_be_awaited(&self) -> Option<&'static str> {
        (self.name == SEND && self.wait.get().is_ok()).then_some("Sender.send")
    }

    fn call(&self) -> &'static str {
        self.name
    }

    fn path(&self) -> Path {
        Path(|| "channel")
    }

    fn poll<'py>(&mut self, py: Python<'py>, cx: &mut Context<'_>) -> Poll<PyResult<Bound<'py, PyAny>>> {
        self.wait.get()?.poll(py, cx)
    }

    fn waits(&self) -> Option<Weak<dyn Abandon>> {
        self.wait.get().ok().map(|wait| Arc::clone(wait).downgrade())
    }

    /// It has Rust values only.
    fn traverse(&self, _: &Visit) {}
}
