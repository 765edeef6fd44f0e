//! Await Python from Rust and Rust from Python, on tokio.

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
