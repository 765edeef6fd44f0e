//! Processes that fork.
//!
//! A forked child has the memory of its parent and none of its threads.
//! Whatever a thread was to do there is never done, and a lock that a thread held is never released.
//! So nothing that belongs to the parent's threads is used in the child: it is told apart, and left as it is.

use std::{
    fmt, ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

/// How many forks there were on the way from the first process to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, as told apart from those that it forks and from that which forked it.
///
/// To compare costs one load: no system call is made.
/// A fork is noticed by a handler of the C library's, which sees those that Python makes and those of any other code;
/// a process that is made by the bare system call `clone` is not noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// The process that runs.
    #[must_use]
    pub fn current() -> Self {
        watch();
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this is the process that runs; if not, that has forked since.
    #[must_use]
    pub fn is_current(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    /// Has each child that is forked from now on call `f`, on its one thread, before the fork returns there.
    ///
    /// That thread brings its thread-locals along, which may speak of what is not there any more.
    /// `f` must wait for no lock: the thread that holds it may not be there either.
    ///
    /// It is registered with the C library for good, and where there are no forks nothing happens.
    pub fn after_fork(f: extern "C" fn()) {
        // They are called in this order.
        watch();
        #[cfg(unix)]
        register(None, None, f);
        #[cfg(not(unix))]
        let _ = f;
    }

    /// Has the thread that forks call `before` first, and then `in_parent` and `in_child`: by this a lock is held
    /// while there is a fork, whoever makes it.
    ///
    /// The thread may be attached to Python, and stays so.
    pub(crate) fn around_fork(before: extern "C" fn(), in_parent: extern "C" fn(), in_child: extern "C" fn()) {
        #[cfg(unix)]
        register(Some(before), Some(in_parent), in_child);
        #[cfg(not(unix))]
        let _ = (before, in_parent, in_child);
    }
}

#[cfg(unix)]
fn register(before: Option<extern "C" fn()>, in_parent: Option<extern "C" fn()>, in_child: extern "C" fn()) {
    let [before, in_parent, in_child] =
        [before, in_parent, Some(in_child)].map(|f| f.map(|f| f as unsafe extern "C" fn()));
    // SAFETY: the handlers may be called at any time, and are never unloaded: Python keeps its extensions.
    let error = unsafe { libc::pthread_atfork(before, in_parent, in_child) };
    assert_eq!(error, 0, "there is memory for one handler");
}

/// Has the C library call us in each forked child.
#[cfg(unix)]
fn watch() {
    use std::sync::atomic::AtomicBool;

    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
        super::hooks::begin_anew();
    }

    static WATCHED: AtomicBool = AtomicBool::new(false);

    // Two threads may register it, which does no harm; to wait for each other would, in a child that is forked then.
    if !WATCHED.load(Ordering::Relaxed) {
        register(None, None, forked);
        WATCHED.store(true, Ordering::Relaxed);
    }
}

/// There is no fork.
#[cfg(not(unix))]
fn watch() {}

/// A static value that each process has for itself.
///
/// A forked child makes its own on first use; that of its parent is left as it is and never dropped, since threads that
/// the child does not have may hold its locks, or be what it refers to.
///
/// ```
/// use std::sync::Mutex;
/// use pyo3_await::PerProcess;
///
/// static RUNTIME: PerProcess<Mutex<Option<String>>> = PerProcess::new(|_parents| Mutex::new(None));
///
/// RUNTIME.get().lock().unwrap().get_or_insert_with(|| "started".to_owned());
/// ```
pub struct PerProcess<T: 'static> {
    current: AtomicPtr<Owned<T>>,
    new: fn(Option<&'static T>) -> T,
}

struct Owned<T> {
    process: Process,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// A value that `new` makes on first use, in each process.
    ///
    /// In a forked child it is given the value of the process that forked it, if that had one.
    /// It must not wait for a lock in there, but may try one.
    pub const fn new(new: fn(Option<&'static T>) -> T) -> Self {
        Self { current: AtomicPtr::new(ptr::null_mut()), new }
    }

    /// The value of this process.
    pub fn get(&self) -> &'static T {
        let process = Process::current();
        let mut found = self.current.load(Ordering::Acquire);
        loop {
            // SAFETY: what is in there was leaked by this function, and is never freed.
            let owned = unsafe { found.as_ref() };
            if let Some(owned) = owned.filter(|owned| owned.process == process) {
                return &owned.value;
            }
            let value = (self.new)(owned.map(|owned| &owned.value));
            let mine = Box::into_raw(Box::new(Owned { process, value }));
            match self.current.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => found = mine,
                Err(other) => {
                    // SAFETY: nobody else has seen it.
                    drop(unsafe { Box::from_raw(mine) });
                    found = other;
                }
            }
        }
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerProcess").finish_non_exhaustive()
    }
}
