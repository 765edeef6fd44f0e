//! The spin lock under loom: one thread at a time has the value, and sees what the one before has left.

#![allow(dead_code, unreachable_pub, reason = "the module is the crate's own, with other primitives")]
#![allow(clippy::duplicate_mod, reason = "it is there with two sets of them")]

use loom::{
    cell::UnsafeCell,
    sync::{Arc, Mutex},
    thread,
};
use pyo3::Python;

/// The lock as it is with the GIL, or without it.
macro_rules! spin_lock {
    ($module:ident, $gil:literal) => {
        #[path = "../src/sync"]
        mod $module {
            pub(crate) mod spin_lock;

            mod primitives {
                pub(crate) use loom::{
                    sync::atomic::{AtomicBool, Ordering},
                    thread::yield_now,
                };

                pub(crate) const GIL: bool = $gil;
            }

            #[test]
            fn what_is_locked_is_not_locked_again() {
                loom::model(|| {
                    let lock = spin_lock::SpinLock::new(());
                    let guard = lock.try_lock(super::attached());
                    assert!(guard.is_some());
                    assert!(lock.try_lock(super::attached()).is_none());
                    drop(guard);
                    assert!(lock.try_lock(super::attached()).is_some());
                });
            }
        }
    };
}

spin_lock!(without_gil, false);
spin_lock!(with_gil, true);

/// Nothing is called of Python's: this says who may be here.
fn attached() -> Python<'static> {
    // SAFETY: it is a token, and there is no Python that it could be used for.
    unsafe { Python::assume_attached() }
}

/// A number that loom watches: two threads at it at once, or one that does not know of the other, are reported.
struct Watched(UnsafeCell<usize>);

// SAFETY: it is used under the lock; loom checks that.
unsafe impl Send for Watched {}

impl Watched {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn add_one(&mut self) {
        // SAFETY: see above.
        self.0.with_mut(|number| unsafe { *number += 1 });
    }

    fn get(&self) -> usize {
        // SAFETY: see above.
        self.0.with(|number| unsafe { *number })
    }
}

/// Two threads add to what they share, each by `add`, which says how much; `sum` is what there is then.
fn added<S: Send + Sync + 'static>(new: fn() -> S, add: fn(&S) -> usize, sum: fn(&S) -> usize) {
    loom::model(move || {
        let shared = Arc::new(new());
        let theirs = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || add(&shared))
        };
        let mine = add(&shared);
        let both = mine + theirs.join().unwrap();
        assert_eq!(sum(&shared), both);
    });
}

mod where_all_are_attached_at_once {
    use super::{Watched, added, attached, without_gil::spin_lock::SpinLock};

    type Shared = SpinLock<Watched>;

    fn new() -> Shared {
        SpinLock::new(Watched::new())
    }

    #[test]
    fn one_thread_has_it_at_a_time() {
        let add = |lock: &Shared| {
            lock.lock(attached()).add_one();
            1
        };
        added(new, add, |lock| lock.lock(attached()).get());
    }

    #[test]
    fn who_does_not_wait_has_it_or_not() {
        let add = |lock: &Shared| {
            lock.try_lock(attached()).map_or(0, |mut value| {
                value.add_one();
                1
            })
        };
        added(new, add, |lock| lock.lock(attached()).get());
    }
}

mod where_one_is_attached_at_a_time {
    use super::{Mutex, Watched, added, attached, with_gil::spin_lock::SpinLock};

    struct Shared {
        gil: Mutex<()>,
        lock: SpinLock<Watched>,
    }

    fn new() -> Shared {
        Shared { gil: Mutex::new(()), lock: SpinLock::new(Watched::new()) }
    }

    fn sum(Shared { gil, lock }: &Shared) -> usize {
        let _attached = gil.lock().unwrap();
        lock.lock(attached()).get()
    }

    #[test]
    fn one_thread_has_it_at_a_time() {
        let add = |Shared { gil, lock }: &Shared| {
            let _attached = gil.lock().unwrap();
            lock.lock(attached()).add_one();
            1
        };
        added(new, add, sum);
    }

    #[test]
    fn who_has_it_and_detaches_still_has_it() {
        let add = |Shared { gil, lock }: &Shared| {
            let value = {
                let _attached = gil.lock().unwrap();
                lock.try_lock(attached())
            };
            value.map_or(0, |mut value| {
                value.add_one();
                1
            })
        };
        added(new, add, sum);
    }
}
