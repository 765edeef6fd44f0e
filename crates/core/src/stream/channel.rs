//! A channel whose ends may be in Rust or in Python.

use std::{
    error::Error,
    ffi::CStr,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures_core::Stream;
use pyo3::{
    conversion::FromPyObjectOwned,
    exceptions::PyStopAsyncIteration,
    prelude::*,
    types::{PyTuple, PyType},
};

use super::{
    alarm::Abandon,
    into_python::item_into_python,
    polled::{self, Operation},
};
use crate::{
    ChannelClosed,
    class::{PendingException, Visit},
    error,
    lifecycle::{self, Process},
    once::PyOnce,
    panic,
    path::Path,
    sync::Lock,
};

/// Makes a channel that holds up to `capacity` items.
///
/// Either end may be given to Python: a [`Sender`] or [`Receiver`] is converted when a function returns it, or by
/// `into_pyobject`. In Python the one has `await send(item)` and `close()`, the other `await receive()`, `async for`
/// and `close()`; both can be used in a `with` statement, which closes at its end.
/// So Rust may feed Python, Python Rust, or either itself; each item goes to one receiver.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_await::{Receiver, Sender, channel};
///
/// /// Python sends text; Rust receives it.
/// #[pyfunction]
/// fn log_to(py: Python<'_>) -> PyResult<Sender<String>> {
///     let (sender, lines) = channel::<String>(100);
///     # fn spawn(_: impl Future<Output = ()> + Send) {}
///     spawn(async move {
///         while let Ok(line) = lines.recv().await {
///             println!("{line}");
///         }
///     });
///     Ok(sender)
/// }
/// ```
///
/// # Closing
///
/// The channel is closed by `close` on any end, and when the last sender or the last receiver is gone; in Python that
/// is when it is garbage.
/// Nothing can be sent then: [`Sender::send`] gives the item back, Python's `send` raises [`ChannelClosed`].
/// What was sent before is received all the same; after that [`Receiver::recv`] is an error, `receive` raises
/// [`ChannelClosed`], and streams and `async for` end.
///
/// # Cancellation
///
/// A cancelled `send` has not sent its item, and a cancelled `receive` has not taken one.
/// An item wakes one of those who wait for it; the next one, if that one is cancelled or its event loop is closed.
///
/// A Python `send` that is never awaited has not sent its item, and Python warns, as of a coroutine.
///
/// # In Python
///
/// Where there is room, or an item, `send` and `receive` give the event loop no turn, as with `asyncio.Queue`: in a
/// loop without an end `await asyncio.sleep(0)` now and then lets others, timeouts and Ctrl-C come in.
///
/// The garbage collector does not see what is in a channel: an item that refers to an end of its own channel stays,
/// with that, until it is received, even if the channel is closed.
///
/// # Panics
///
/// When `capacity` is 0.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = async_channel::bounded(capacity);
    (Sender(sender), Receiver(Box::pin(receiver)))
}

/// The end of a [`channel`] that takes items. Clones send to the same channel.
pub struct Sender<T>(async_channel::Sender<T>);

/// The end of a [`channel`] that gives items, also as a stream. Clones share them: each item goes to one.
pub struct Receiver<T>(Pin<Box<async_channel::Receiver<T>>>);

/// The channel was closed; the item was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// The channel is closed and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

impl<T> Sender<T> {
    /// Sends an item; waits while the channel is full.
    ///
    /// # Errors
    ///
    /// The item, when the channel is closed.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.0.send(item).await.map_err(|error| SendError(error.0))
    }

    /// Closes the channel; says whether it was open.
    pub fn close(&self) -> bool {
        self.0.close()
    }

    /// Whether nothing can be sent any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Receiver<T> {
    /// Receives an item; waits while the channel is empty.
    ///
    /// # Errors
    ///
    /// When the channel is closed and empty.
    pub async fn recv(&self) -> Result<T, RecvError> {
        self.0.recv().await.map_err(|_| RecvError)
    }

    /// Closes the channel; says whether it was open. What is in it can still be received.
    pub fn close(&self) -> bool {
        self.0.close()
    }

    /// Whether nothing can be sent any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(Box::pin((*self.0).clone()))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel is closed: the item was not sent")
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel is closed, and all that was sent has been received")
    }
}

impl<T> Error for SendError<T> {}

impl Error for RecvError {}

impl<T> From<SendError<T>> for PyErr {
    fn from(error: SendError<T>) -> Self {
        ChannelClosed::new_err(error.to_string())
    }
}

impl From<RecvError> for PyErr {
    fn from(error: RecvError) -> Self {
        ChannelClosed::new_err(error.to_string())
    }
}

/// A sender of items of any type, as Python sees it.
trait Sends: Send + Sync {
    /// Converts the item and makes an awaitable that sends it.
    fn send<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
    fn close(&self) -> bool;
    fn is_closed(&self) -> bool;
}

impl<T> Sends for Sender<T>
where
    T: for<'py> FromPyObjectOwned<'py> + Send + 'static,
{
    fn send<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = item.py();
        panic::listen(py);
        let item: T = panic::catch(|| item.extract().map_err(Into::into)).map_err(error::panicked)??;
        let sender = self.clone();
        awaitable(py, SEND, async move { Ok(sender.send(item).await?) })
    }

    fn close(&self) -> bool {
        self.close()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// A receiver of items of any type, as Python sees it.
trait Receives: Send + Sync {
    /// An awaitable that receives an item, and raises what `closed` makes when there are no more.
    fn receive<'py>(&self, py: Python<'py>, name: &'static str, closed: fn() -> PyErr) -> PyResult<Bound<'py, PyAny>>;
    fn close(&self) -> bool;
    fn is_closed(&self) -> bool;
}

impl<T> Receives for Receiver<T>
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn receive<'py>(&self, py: Python<'py>, name: &'static str, closed: fn() -> PyErr) -> PyResult<Bound<'py, PyAny>> {
        // The channel wakes one such future for an item, and all who wait for it as a stream.
        let receiver = self.clone();
        awaitable(py, name, async move { receiver.recv().await.map_err(|_| closed()) })
    }

    fn close(&self) -> bool {
        self.close()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// What belongs to the process in which it was made. In a forked child it is not used, nor dropped: the other end, and
/// who waits for it, are the parent's.
struct Own<T> {
    process: Process,
    /// `None` while it is dropped.
    value: Option<T>,
}

impl<T> Own<T> {
    fn new(value: T) -> Self {
        Self { process: Process::current(), value: Some(value) }
    }

    /// # Errors
    ///
    /// `RuntimeError` in a forked child.
    fn get(&self) -> PyResult<&T> {
        let here = self.value.as_ref().filter(|_| self.process.is_current());
        here.ok_or_else(|| error::forked("the channel"))
    }

    /// Drops it, as one of PyO3's objects is deallocated: what nobody has received goes with the last end of a channel,
    /// and its drop is the user's code.
    fn release(&mut self) {
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
const SEND: &str = "send()";

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
fn awaitable<'py, T>(
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

/// Python's end of a channel that takes items.
#[pyclass(frozen, name = "Sender", module = "pyo3_await")]
struct PythonSender(Own<Box<dyn Sends>>);

#[pymethods]
impl PythonSender {
    fn send<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get()?.send(item)
    }

    fn close(&self) -> PyResult<()> {
        self.0.get()?.close();
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_closed())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close()
    }
}

/// Python's end of a channel that gives items.
#[pyclass(frozen, name = "Receiver", module = "pyo3_await")]
struct PythonReceiver(Own<Box<dyn Receives>>);

#[pymethods]
impl PythonReceiver {
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get()?.receive(py, "receive()", || RecvError.into())
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get()?.receive(py, "__anext__()", || PyStopAsyncIteration::new_err(()))
    }

    fn close(&self) -> PyResult<()> {
        self.0.get()?.close();
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_closed())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close()
    }
}

impl Drop for PythonSender {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for PythonReceiver {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<'py, T> IntoPyObject<'py> for Sender<T>
where
    T: for<'a> FromPyObjectOwned<'a> + Send + 'static,
{
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        lifecycle::install(py)?;
        Ok(Bound::new(py, PythonSender(Own::new(Box::new(self))))?.into_any())
    }
}

impl<'py, T> IntoPyObject<'py> for Receiver<T>
where
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        lifecycle::install(py)?;
        Ok(Bound::new(py, PythonReceiver(Own::new(Box::new(self))))?.into_any())
    }
}
