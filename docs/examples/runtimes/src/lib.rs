//! Three runtimes of one's own, by public API only.
//!
//! Each module is what an adapter crate is: an `impl Runtime`, and one `adapter!` line that fills the module with the
//! bridge's functions.
//! With `testing` beside them, `#[pyo3_await::main(crate = ...)]` and `#[pyo3_await::test(crate = ...)]` take it, too.

#![forbid(unsafe_code)]

pub mod thread_per_task;
pub mod thread_per_core;
pub mod pool;
