//! Await Python from Rust and Rust from Python, on async-std.
//!
//! **async-std is no longer developed** ([RUSTSEC-2025-0052]).
//! This crate is for programs that have it already.
//! Its authors point to smol, and so does this crate: `pyo3-await-smol` has the same API, so that changing to it is
//! changing the crate's name.
//!
//! [RUSTSEC-2025-0052]: https://rustsec.org/advisories/RUSTSEC-2025-0052.html

#![forbid(unsafe_code)]

mod runtime;

pub use runtime::AsyncStd;

pyo3_await::adapter!(AsyncStd, Ok(AsyncStd));

#[cfg(feature = "macros")]
pub use pyo3_await_macros::{async_std_main as main, async_std_test as test};
#[cfg(feature = "testing")]
pub use pyo3_await_testing as testing;
