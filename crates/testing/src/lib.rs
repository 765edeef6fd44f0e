//! A test harness that leaves the main thread to Python.
//!
//! Rust's own harness runs tests on threads of its own and keeps the main thread, which asyncio needs for signals and
//! child processes.
//! Here `#[main]` gives the main thread to Python's event loop, and the tests run beside it, under libtest's command
//! line: a filter, `--list`, `--exact`, `--skip`, `--ignored`, `--test-threads` and the rest.
//!
//! It is reached through an adapter crate, with its feature `testing`.
//! The tests are an integration test without Rust's own harness:
//!
//! ```toml
//! [dev-dependencies]
//! pyo3-await-tokio = { version = "0.1", features = ["testing"] }
//!
//! [[test]]
//! name = "test_example"
//! path = "pytests/test_example.rs"
//! harness = false
//! ```
//!
//! ```no_run
//! // pytests/test_example.rs
//! mod tests {
//!     use std::{thread, time::Duration};
//!
//!     use pyo3::prelude::*;
//!
//!     /// A test may be async: it runs on the runtime, and can await Python, too.
//!     #[pyo3_await_tokio::test]
//!     async fn sleeps() -> PyResult<()> {
//!         let sleep = Python::attach(|py| {
//!             pyo3_await_tokio::into_future(py.import("asyncio")?.call_method1("sleep", (0.1,))?)
//!         })?;
//!         sleep.await?;
//!         Ok(())
//!     }
//!
//!     /// A test that is not runs on a thread of its own, not attached to Python.
//!     #[pyo3_await_tokio::test(timeout = "5s")]
//!     fn blocks() {
//!         thread::sleep(Duration::from_millis(100));
//!     }
//! }
//!
//! #[pyo3_await_tokio::main]
//! async fn main() -> pyo3::PyResult<()> {
//!     pyo3_await_tokio::testing::main().await
//! }
//! ```
//!
//! # Timeouts
//!
//! A test has as long as its `timeout` says, else as long as the environment variable `PYO3_AWAIT_TEST_TIMEOUT` says
//! (`500ms`, `5s`, `2m`), else for ever.
//! An async test that is out of time is dropped, at its next await point; a test that is not async goes on in its
//! thread.
//! Either way it has failed, and the other tests run, or fail and name it if it keeps the only thread of their runtime.
//! A test that blocks the event loop's thread or holds the GIL cannot be skipped: it is named, and the process ends
//! with exit code 101.
//!
//! # What a test leaves behind
//!
//! Each test has its own copy of the context in which [`main`] was called: what it sets in a `contextvars.ContextVar`
//! no other test sees.
//! The Python tasks that it has started and that have not ended are cancelled, and named on standard error.
//!
//! # What is not captured
//!
//! Output is written as it comes, as under `--nocapture`.

#![forbid(unsafe_code)]

mod cli;
mod registry;
mod harness;
mod attempt;
mod watchdog;
mod python;
mod panics;
mod timeout;

pub use cli::main;

/// What `#[test]` expands to names. Not public API: anything here may change in any release.
#[doc(hidden)]
pub mod private {
    pub use linkme;

    pub use crate::{
        __register as register,
        attempt::{AsyncStart, SyncStart},
        registry::{Body, TESTS, Test, wrong_harness},
    };
}
