//! Await Python from Rust and Rust from Python, on smol.

#![forbid(unsafe_code)]

mod runtime;

pub use runtime::{AlreadyInUse, Smol};

pyo3_await::adapter!(Smol, Ok(Smol::current()));

#[cfg(feature = "macros")]
pub use pyo3_await_macros::{smol_main as main, smol_test as test};
#[cfg(feature = "testing")]
pub use pyo3_await_testing as testing;
