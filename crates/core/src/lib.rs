//! Await Python from Rust and Rust from Python, on any Rust runtime.
//!
//! Who uses tokio, smol or async-std wants `pyo3-await-tokio`, `pyo3-await-smol` or `pyo3-await-async-std`: each has
//! all of this, with its runtime filled in.
//!
//! This crate knows no runtime.
//! It has the trait [`Runtime`], the bridge as methods on each that there is ([`RuntimeExt`]), and [`adapter!`], which
//! makes of a runtime of one's own what those crates are:
//!
//! ```
//! use pyo3::prelude::*;
//!
//! mod threads {
//!     use std::{future::Future, thread};
//!
//!     #[derive(Clone)]
//!     pub struct Threads;
//!
//!     impl pyo3_await::Runtime for Threads {
//!         fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
//!             thread::spawn(|| futures::executor::block_on(future));
//!         }
//!     }
//!
//!     pyo3_await::adapter!(Threads, Ok(Threads));
//! }
//!
//! /// Python awaits Rust, which awaits Python.
//! #[pyfunction]
//! fn call(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
//!     threads::into_coroutine(py, async move {
//!         threads::into_future_with(move |py| function.bind(py).call0())?.await
//!     })
//! }
//!
//! # fn main() -> PyResult<()> {
//! # Python::initialize();
//! # Python::attach(|py| {
//! let names = pyo3::types::PyDict::new(py);
//! names.set_item("call", wrap_pyfunction!(call, py)?)?;
//! let code = c"import asyncio; assert asyncio.run(call(lambda: asyncio.sleep(0, 42))) == 42";
//! py.run(code, Some(&names), Some(&names))
//! # })
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

// In reading order.
mod runtime;
mod adapter;
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
mod path;
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
