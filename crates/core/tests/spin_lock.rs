//! The spin lock under loom: one thread at a time has the value, and sees what the one before has left.

#![allow(dead_code, unreachable_pub, reason = "the module is the crate's own, with other primitives")]

use loom::{cell::UnsafeCell, sync::Arc, thread};

#[path = "../src/sync/spin_lock.rs"]
mod spin_lock;

mod primitives {
    pub(crate) use loom::{
        sync::atomic::{AtomicBool, Ordering},
        thread::yield_now,
    };
}

use self::spin_lock::SpinLock;

/// A number that loom watches: two threads at it at once, or one that does not know of the other, are reported.
struct Watched(UnsafeCell<usize>);

// SAFETY: it is used under the lock; loom checks that.
unsafe impl Send for Watched {}

impl Watched {
    fn add_one(&mut self) {
        // SAFETY: see above.
        self.0.with_mut(|number| unsafe { *number += 1 });
    }

    fn get(&self) -> usize {
        // SAFETY: see above.
        self.0.with(|number| unsafe { *number })
    }
}

/// What `threads` have added, each by `add`, which says how much.
fn added(threads: usize, add: fn(&SpinLock<Watched>) -> usize) {
    loom::model(move || {
        let lock = Arc::new(SpinLock::new(Watched(UnsafeCell::new(0))));
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || add(&lock))
            })
            .collect();
        let mine = add(&lock);
        let theirs: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(lock.lock().get(), mine + theirs);
    });
}

#[test]
fn one_thread_has_it_at_a_time() {
    added(2, |lock| {
        lock.lock().add_one();
        1
    });
}

#[test]
fn who_does_not_wait_has_it_or_not() {
    added(2, |lock| {
        lock.try_lock().map_or(0, |mut value| {
            value.add_one();
            1
        })
    });
}

#[test]
fn what_is_locked_is_not_locked_again() {
    loom::model(|| {
        let lock = SpinLock::new(());
        let guard = lock.try_lock();
        assert!(guard.is_some());
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert!(lock.try_lock().is_some());
    });
}
