//! The gate that closes when the interpreter ends, and pauses when the process forks.
//!
//! Whoever is about to do something that may touch Python goes in, and comes out when it is done.
//! To close the gate, or to pause it, is to let nobody in any more; then those who are in can be waited for.
//!
//! One counter for all would be a cache line that all threads of all runtimes fight for, so there are several.

// The test has loom's in their place.
use super::primitives::{AtomicUsize, Ordering};

/// The bit of each counter that says that the gate is closed.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// The bit that says that it is paused.
const PAUSED: usize = CLOSED >> 1;

/// A gate that is open at first, when its counters are zero.
#[derive(Debug)]
pub(crate) struct Gate<const COUNTERS: usize>(pub(crate) [Counter; COUNTERS]);

/// How many are in, of the threads that have this counter; on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Counter(pub(crate) AtomicUsize);

impl<const COUNTERS: usize> Gate<COUNTERS> {
    /// Goes in, by the counter with this index; false when the gate is closed or paused.
    #[must_use]
    pub(crate) fn enter(&self, counter: usize) -> bool {
        self.enter_unless(CLOSED | PAUSED, counter)
    }

    /// The same for a thread that cannot wait: false only when the gate is closed.
    #[must_use]
    pub(crate) fn enter_paused(&self, counter: usize) -> bool {
        self.enter_unless(CLOSED, counter)
    }

    fn enter_unless(&self, bits: usize, counter: usize) -> bool {
        // Acquire pairs with the release in `reopen`.
        if self.0[counter].0.fetch_add(1, Ordering::Acquire) & bits == 0 {
            return true;
        }
        self.0[counter].0.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Comes out; true when the gate was closed or paused meanwhile, and somebody may wait for that.
    pub(crate) fn leave(&self, counter: usize) -> bool {
        // Release pairs with the acquire in `inside`: what was done in here has happened before the end.
        self.0[counter].0.fetch_sub(1, Ordering::Release) & (CLOSED | PAUSED) != 0
    }

    pub(crate) fn close(&self) {
        for counter in &self.0 {
            counter.0.fetch_or(CLOSED, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0[0].0.load(Ordering::Relaxed) & CLOSED != 0
    }

    pub(crate) fn pause(&self) {
        for counter in &self.0 {
            counter.0.fetch_or(PAUSED, Ordering::Relaxed);
        }
    }

    /// Lets in again, unless it is closed.
    pub(crate) fn resume(&self) {
        for counter in &self.0 {
            counter.0.fetch_and(!PAUSED, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0[0].0.load(Ordering::Relaxed) & PAUSED != 0
    }

    /// How many are in. Once the gate is closed or paused, this can only be too many: those who are being sent away are
    /// counted.
    pub(crate) fn inside(&self) -> usize {
        self.0.iter().map(|counter| counter.0.load(Ordering::Acquire) & !(CLOSED | PAUSED)).sum()
    }

    /// Nobody is in, and the gate is open: for a forked child, which has just begun.
    #[cfg(unix)]
    pub(crate) fn reopen(&self) {
        for counter in &self.0 {
            counter.0.store(0, Ordering::Release);
        }
    }
}
