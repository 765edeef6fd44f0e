//! Await Python from Rust and Rust from Python, on smol.
//!
//! ```
//! use std::time::Duration;
//!
//! use pyo3::prelude::*;
//! use pyo3_await_smol::{into_coroutine, into_future};
//!
//! /// Python awaits Rust: a function that returns a coroutine.
//! #[pyfunction]
//! fn rust_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
//!     into_coroutine(py, async move {
//!         smol::Timer::after(Duration::from_secs_f64(seconds)).await;
//!         Ok(())
//!     })
//! }
//!
//! /// Rust awaits Python: a program whose main thread is the event loop's.
//! #[pyo3_await_smol::main]
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
//! Everything is on the current runtime; see [`Smol`] for which that is.

#![forbid(unsafe_code)]

mod runtime;

pub use runtime::{AlreadyInUse, Smol};

pyo3_await::adapter!(Smol, Ok(Smol::current()));

#[cfg(feature = "macros")]
pub use pyo3_await_macros::{smol_main as main, smol_test as test};
#[cfg(feature = "testing")]
pub use pyo3_await_testing as testing;
