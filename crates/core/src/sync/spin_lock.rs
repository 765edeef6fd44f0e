//! A lock for what only one thread uses, but for misuse.

use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use pyo3::Python;

// The test has loom's in their place.
use super::primitives::{AtomicBool, GIL, Ordering, yield_now};

/// A lock that costs a load and two stores where the GIL is, and half of a mutex where it is not: to unlock it is a
/// plain store, since nobody sleeps until then.
///
/// It is for what Python objects and the handle of an event loop keep for the loop's thread.
/// Whoever locks it is attached to Python, so that nobody else can be where the GIL is; where it is not, a thread that
/// uses another loop's object spins.
/// As with `Lock`, nothing can panic while it is held, which is for a few instructions: Python is
/// not called, no waker is woken, and no user's value is dropped.
#[derive(Debug, Default)]
pub(crate) struct SpinLock<T, B = ()> {
    locked: AtomicBool,
    /// What is read and written without the lock, in the room that the alignment of `value` leaves.
    pub(crate) beside: B,
    value: UnsafeCell<T>,
}

// SAFETY: a reference to the value is had by whoever has locked it, which is one thread at a time.
unsafe impl<T: Send, B: Sync> Sync for SpinLock<T, B> {}

impl<T> SpinLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self::with_beside(value, ())
    }
}

impl<T, B> SpinLock<T, B> {
    pub(crate) fn with_beside(value: T, beside: B) -> Self {
        Self { locked: AtomicBool::new(false), beside, value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self, py: Python<'_>) -> SpinLockGuard<'_, T, B> {
        loop {
            if let Some(guard) = self.try_lock(py) {
                return guard;
            }
            yield_now();
        }
    }

    /// For the garbage collector, which must not wait, and finds it unlocked: whoever locks it is attached, and does
    /// not call Python until it lets go.
    pub(crate) fn try_lock(&self, _: Python<'_>) -> Option<SpinLockGuard<'_, T, B>> {
        // Acquire pairs with the release of whoever had it locked before.
        let locked = if !GIL {
            self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err()
        } else if self.locked.load(Ordering::Acquire) {
            true
        } else {
            // Between the two nobody else is attached.
            self.locked.store(true, Ordering::Relaxed);
            false
        };
        (!locked).then(|| SpinLockGuard(self, PhantomData))
    }

    /// For the only owner.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The right to use the value, for the thread that has got it.
#[derive(Debug)]
pub(crate) struct SpinLockGuard<'a, T, B = ()>(&'a SpinLock<T, B>, PhantomData<*const ()>);

impl<T, B> Deref for SpinLockGuard<'_, T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: there is one guard at a time, and it is borrowed.
        unsafe { &*self.0.value.get() }
    }
}

impl<T, B> DerefMut for SpinLockGuard<'_, T, B> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is one guard at a time, and it is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T, B> Drop for SpinLockGuard<'_, T, B> {
    fn drop(&mut self) {
        self.0.locked.store(false, Ordering::Release);
    }
}
