//! What the gate is built from, by the names that loom has for it.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
