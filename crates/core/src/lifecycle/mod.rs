//! The end of the interpreter, and forks.
//!
//! When the interpreter ends, it ends the threads that attach to it: on most versions by unwinding them, which Rust
//! code does not survive.
//! A runtime's worker attaches when the user's future does, and a daemon thread whose event loop is inside a drain has
//! our frames above Python's.
//! So a hook of `atexit` closes a [`Gate`](gate::Gate) that every poll and every drain goes through, and waits until
//! all are out; from then on nothing is polled, and a thread that comes to the gate stays there.
//!
//! For the time of a fork the gate pauses, and the fork waits until all are out: a lock that is held in a poll, PyO3's
//! or the user's own, would be locked for ever in the child.

mod admitted;
mod gate;
mod hooks;
mod pass;
mod primitives;
mod process;
#[cfg(all(target_os = "linux", not(Py_3_12)))]
mod thread_states;

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    thread,
    time::Duration,
};

use self::gate::{Counter, Gate};
pub use self::process::{PerProcess, Process};
pub(crate) use self::{
    admitted::Admitted,
    hooks::install,
    pass::{admit, enter, enter_or_park, enter_to_attach, is_attached, is_inside, is_main_thread, shelter},
};

/// Each thread has one of the gate's counters for good.
const COUNTERS: usize = 16;

static GATE: Gate<COUNTERS> = Gate([const { Counter(AtomicUsize::new(0)) }; COUNTERS]);

/// Where the end of the interpreter, or a fork, waits for those who are in, and they for the fork; with the number of
/// forks that are under way. Whoever has the lock does not wait for the interpreter.
static AT_GATE: PerProcess<Meeting> = PerProcess::new(|_| Meeting::default());

/// Where threads wait for each other, with the number of those that they wait for.
#[derive(Default)]
struct Meeting {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has those who wait look again.
    fn tell(&self) {
        let _count = self.lock();
        self.changed.notify_all();
    }

    /// Waits until it is so, or the time is over.
    fn wait(&self, bound: Duration, is_so: impl Fn(usize) -> bool) {
        drop(self.changed.wait_timeout_while(self.lock(), bound, |count| !is_so(*count)));
    }
}

/// The rest of this thread's life, when the interpreter is ending. It must not be attached.
fn park() -> ! {
    loop {
        thread::park();
    }
}
