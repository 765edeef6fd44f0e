//! Locks that do not care for panics, and what needs none.

mod on_thread;
mod primitives;
mod spin_lock;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use self::{
    on_thread::{OnThread, Untouchable},
    spin_lock::SpinLock,
};

/// A mutex that is held for a few instructions: never while Python is called, a waker is woken or a user's value is
/// dropped. So nothing can panic under it, and poison means nothing.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the garbage collector, which must not wait. It finds unlocked what is locked by attached threads only.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}
