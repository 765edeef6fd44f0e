//! Await Python from Rust and Rust from Python, on async-std.
//!
//! **async-std is no longer developed** ([RUSTSEC-2025-0052]).
//! This crate is for programs that have it already.
//! Its authors point to smol, and so does this crate: `pyo3-await-smol` has the same API, so that changing to it is
//! changing the crate's name.
//!
//! [RUSTSEC-2025-0052]: https://rustsec.org/advisories/RUSTSEC-2025-0052.html
//!
//! ```
//! use std::time::Duration;
//!
//! use pyo3::prelude::*;
//! use pyo3_await_async_std::{into_coroutine, into_future};
//!
//! /// Python awaits Rust: a function that returns a coroutine.
//! #[pyfunction]
//! fn rust_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
//!     into_coroutine(py, async move {
//!         async_std::task::sleep(Duration::from_secs_f64(seconds)).await;
//!         Ok(())
//!     })
//! }
//!
//! /// Rust awaits Python: a program whose main thread is the event loop's.
//! #[pyo3_await_async_std::main]
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
//! Everything is on the current runtime; see [`AsyncStd`] for which that is.

#![forbid(unsafe_code)]

mod runtime;

pub use runtime::AsyncStd;

pyo3_await::adapter!(AsyncStd, Ok(AsyncStd));

#[cfg(feature = "macros")]
pub use pyo3_await_macros::{async_std_main as main, async_std_test as test};
#[cfg(feature = "testing")]
pub use pyo3_await_testing as testing;
