//! A value that belongs to one thread.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ThreadId},
};

/// A value that is touched by one thread only, that on which it was made, and there by one frame at a time.
///
/// It can be shared with other threads, which may only ask for it in vain.
/// It is not dropped with this: what has to be dropped is taken out before, and whoever pins it in here sees to it that
/// this lasts as long.
pub(crate) struct OnThread<T> {
    thread: ThreadId,
    /// Whoever has turned it true may touch the value. Only the value's thread uses it, so that `Relaxed` will do.
    touched: AtomicBool,
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: the value is touched on its thread only, by `with`, which checks that.
unsafe impl<T> Sync for OnThread<T> {}
// SAFETY: as above; to drop it does not touch the value.
unsafe impl<T> Send for OnThread<T> {}

/// Why a value cannot be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untouchable {
    /// This is not its thread.
    Elsewhere,
    /// A frame further up the stack has it.
    Touched,
}

impl<T> OnThread<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = UnsafeCell::new(ManuallyDrop::new(value));
        Self { thread: this_thread(), touched: AtomicBool::new(false), value }
    }

    /// Whether this is the value's thread.
    pub(crate) fn is_here(&self) -> bool {
        self.thread == this_thread()
    }

    /// Calls `f` with the value. Unless `f` moves it, it stays where it is.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, Untouchable> {
        struct Touching<'a>(&'a AtomicBool);

        impl Drop for Touching<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }

        if !self.is_here() {
            return Err(Untouchable::Elsewhere);
        }
        if self.touched.load(Ordering::Relaxed) {
            return Err(Untouchable::Touched);
        }
        self.touched.store(true, Ordering::Relaxed);
        let _touching = Touching(&self.touched);
        // SAFETY: this is the value's thread, and no other frame of it is here.
        Ok(f(unsafe { &mut *self.value.get() }))
    }

    /// Whether a frame further up the stack has it. Only for the value's thread.
    pub(crate) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }
}

/// The calling thread, without a reference to it being counted.
fn this_thread() -> ThreadId {
    thread_local! {
        static ID: ThreadId = thread::current().id();
    }
    // While the thread ends there may be no thread-locals left.
    ID.try_with(|id| *id).unwrap_or_else(|_| thread::current().id())
}
