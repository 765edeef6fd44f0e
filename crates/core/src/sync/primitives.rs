//! What the spin lock is built from, by the names that loom has for it.

pub(super) use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::yield_now,
};

/// Whether one thread at a time is attached to Python.
pub(super) const GIL: bool = cfg!(not(Py_GIL_DISABLED));
