//! A channel whose ends may be in Rust or in Python.

mod call;
mod python;

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pyo3::PyErr;

use crate::ChannelClosed;

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
