//! Await Python from Rust and Rust from Python, on any Rust runtime.

#![cfg_attr(docsrs, feature(doc_cfg))]

// In reading order.
mod runtime;
mod event_loop;
mod lifecycle;
mod locals;
mod cancellation;
mod context;
mod task;
mod local;
mod asyncio_future;
mod coroutine;
mod future;
mod stream;
mod run;
mod signals;
mod block_on;
#[cfg(feature = "macros")]
mod entry;
mod class;
mod error;
mod panic;
mod sync;
mod once;
#[doc(hidden)]
pub mod private;

pub use cancellation::{Cancelled, cancelled};
pub use error::{ChannelClosed, RustPanic};
pub use future::{PythonFuture, into_future, into_future_with};
pub use lifecycle::{PerProcess, Process};
pub use locals::{Scope, TaskLocals, attach, scope};
#[cfg(feature = "macros")]
pub use pyo3_await_macros::{main, test};
pub use run::run_forever;
pub use runtime::{Runtime, RuntimeExt};
pub use stream::{PythonStream, Receiver, RecvError, SendError, Sender, channel, into_stream};
