//! Await Python from Rust and Rust from Python, on tokio.
//!
//! ```
//! use std::time::Duration;
//!
//! use pyo3::prelude::*;
//! use pyo3_await_tokio::{into_coroutine, into_future};
//!
//! /// Python awaits Rust: a function that returns a coroutine.
//! #[pyfunction]
//! fn rust_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
//!     into_coroutine(py, async move {
//!         tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
//!         Ok(())
//!     })
//! }
//!
//! /// Rust awaits Python: a program whose main thread is the event loop's.
//! #[pyo3_await_tokio::main]
//! async fn main() -> PyResult<()> {
//!     let future = Python::attach(|py| {
//!         let asyncio = py.import("asyncio")?;
//!         into_future(asyncio.call_method1("sleep", (0.001,))?)
//!     })?;
//!     future.await?;
//!     Ok(())
//! }
//! ```
//!
//! Everything is on the current runtime; see [`Tokio`] for which that is.

#![forbid(unsafe_code)]

#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod entry;
mod runtime;

pub use runtime::{AlreadyInUse, Tokio};

pyo3_await::adapter!(Tokio, Tokio::current());

#[cfg(feature = "macros")]
pub use pyo3_await_macros::{tokio_main as main, tokio_test as test};
#[cfg(feature = "testing")]
pub use pyo3_await_testing as testing;
