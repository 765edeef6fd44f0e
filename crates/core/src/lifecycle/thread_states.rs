//! A lock of the interpreter's that a forked child may find locked for ever.
//!
//! A thread that attaches puts its thread state into a list of the interpreter's first, and takes it off last, under a
//! lock and not attached.
//! Before Python 3.12, and the last releases of 3.10 and 3.11, a forked child takes that lock before it makes it anew:
//! if a thread of its parent had it at the moment of the fork, the child never comes out of `os.fork`.
//! It is CPython's issue 112275.
//! The interpreter's own threads do this attached, but a runtime's worker does it whenever a future attaches.

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use pyo3::{ffi, prelude::*};

use super::Process;

/// The version from which on a child makes the lock anew first.
const MENDED: (u8, u8) = (3, 12);

/// How much of the interpreter's state is looked at, in pointers. The lock is the fourth or the fifth.
const SEARCHED: usize = 8;

/// Where the interpreter has the lock, once it is known.
static LOCK: AtomicPtr<*mut c_void> = AtomicPtr::new(ptr::null_mut());

// Both are part of the stable ABI.
unsafe extern "C" {
    fn PyThread_acquire_lock(lock: *mut c_void, wait: c_int) -> c_int;
    fn PyThread_release_lock(lock: *mut c_void);
}

/// Has each child that is forked from now on find the lock unlocked.
pub(super) fn unlock_in_children(py: Python<'_>) {
    if py.version_info() >= MENDED {
        return;
    }
    if let Some(lock) = find(py) {
        LOCK.store(lock, Ordering::Relaxed);
        Process::after_fork(unlock);
    }
}

/// The variable with the lock, which the interpreter does not tell of.
///
/// It stands at the beginning of `_PyRuntime`, right before the newest interpreter and the main one; as long as there
/// is only one these are the same, and known.
fn find(_: Python<'_>) -> Option<*mut *mut c_void> {
    // SAFETY: the name is a string, and the thread is attached.
    let (runtime, interpreter) = unsafe {
        (libc::dlsym(libc::RTLD_DEFAULT, c"_PyRuntime".as_ptr()).cast::<*mut c_void>(), ffi::PyInterpreterState_Get())
    };
    if runtime.is_null() {
        return None;
    }
    // SAFETY: the state is many times as large and aligned for pointers. What is compared may change elsewhere while
    // another interpreter is made, which takes a thread that is attached.
    let known = |index| unsafe { runtime.add(index).read() } == interpreter.cast();
    let lock = (0..SEARCHED).find(|&index| known(index + 1) && known(index + 2))?;
    // SAFETY: it is within the state.
    Some(unsafe { runtime.add(lock) })
}

/// Called in the child, before the interpreter knows that it is one.
extern "C" fn unlock() {
    // SAFETY: there is only one thread, and the variable has a lock until the interpreter has been finalized. Where it
    // is a semaphore, as on Linux, neither function waits for anything; whoever had it is not there any more.
    unsafe {
        let lock = LOCK.load(Ordering::Relaxed).read();
        if !lock.is_null() {
            PyThread_acquire_lock(lock, 0);
            PyThread_release_lock(lock);
        }
    }
}
