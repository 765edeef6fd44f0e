//! What generated code names. Not public API: anything here may change in any release.

pub use futures_core::Stream;
pub use pyo3::{Bound, IntoPyObject, PyAny, PyErr, PyResult, Python};

pub use crate::run::LoopKind;

#[cfg(feature = "macros")]
pub use crate::entry::{EARLY, Failure, Output, main};
