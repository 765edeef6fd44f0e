//! What the spin lock is built from, by the names that loom has for it.

pub(super) use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::yield_now,
};
