//! What a thread needs before it touches Python: a pass, for which it has come through the gate.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use pyo3::{exceptions::PyTypeError, prelude::*};

use super::{AT_GATE, COUNTERS, GATE, Process, park};
use crate::{class::PendingException, error, once::intern};

/// How long a poll waits for a fork, which may have other things to wait for.
const FORK_BOUND: Duration = Duration::from_secs(1);

thread_local! {
    static THREAD: Thread = const {
        Thread {
            passes: Cell::new(Passes::NONE),
            counter: Cell::new(usize::MAX),
            is_main: Cell::new(None),
        }
    };
}

/// What a thread is to the gate.
struct Thread {
    passes: Cell<Passes>,
    /// The index of its counter, once it has one.
    counter: Cell<usize>,
    /// Whether this is the thread that ends the interpreter, and so is not ended by it: in this process, if that is
    /// known.
    is_main: Cell<Option<(bool, Process)>>,
}

/// How many passes a thread has; but for the first they cost nothing.
#[derive(Clone, Copy)]
struct Passes {
    all: usize,
    /// Those that are not to attach only.
    inside: usize,
    /// Whether one of them is counted at the gate.
    counted: bool,
    /// Where it got them. A forked child has frames of the parent's on its stack, whose passes are nothing here.
    process: Option<Process>,
}

impl Passes {
    const NONE: Self = Self { all: 0, inside: 0, counted: false, process: None };
}

/// The right to touch Python, until it is dropped, which must be on the same thread.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The counter that it is counted by: nothing if this thread has another pass, or is the main thread.
    counted: Option<usize>,
    /// Whether the thread is [inside](is_inside) by it.
    inside: bool,
    process: Process,
}

/// Asks for a pass, on any thread; `None` when the interpreter is ending.
pub(crate) fn enter() -> Option<Pass> {
    THREAD.with(|thread| {
        if thread.passes().all > 0 {
            return Some(thread.pass(None));
        }
        let counter = thread.counter();
        (GATE.enter(counter) || enter_late(counter)).then(|| thread.pass(Some(counter)))
    })
}

/// Goes in when a fork is over; false when the interpreter is ending.
#[cold]
fn enter_late(counter: usize) -> bool {
    // For a moment we were counted.
    AT_GATE.get().tell();
    // The fork waits for the interpreter if this thread has it.
    if is_known_as_detached() && !GATE.is_closed() {
        AT_GATE.get().wait(FORK_BOUND, |_| !GATE.is_paused());
        if GATE.is_paused() {
            // The fork waits for something else: for us, it may be. Others shall not wait for it as well.
            GATE.resume();
            AT_GATE.get().tell();
        }
    }
    let is_in = GATE.enter_paused(counter);
    if !is_in {
        AT_GATE.get().tell();
    }
    is_in
}

/// Asks for a pass on a thread that is attached. When the interpreter is ending, a thread that it would end waits for
/// that here.
///
/// # Errors
///
/// `RuntimeError` on the main thread, when the interpreter is ending.
pub(crate) fn admit(py: Python<'_>) -> PyResult<Pass> {
    THREAD.with(|thread| {
        if !thread.is_main(py)? {
            return Ok(enter_or_park_attached(py));
        }
        if GATE.is_closed() { Err(error::interpreter_ending()) } else { Ok(thread.pass(None)) }
    })
}

/// Keeps the interpreter from ending this thread, which is attached, while there are Rust frames on its stack.
///
/// `None` on the main thread, which is not ended.
pub(crate) fn shelter(py: Python<'_>) -> Option<Pass> {
    if is_main_thread(py).unwrap_or(true) { None } else { Some(enter_or_park_attached(py).outside()) }
}

fn enter_or_park_attached(py: Python<'_>) -> Pass {
    enter().unwrap_or_else(|| park_attached(py))
}

/// [`park`], on a thread that is attached.
pub(super) fn park_attached(py: Python<'_>) -> ! {
    py.detach::<(), _>(|| park());
    unreachable!("it stays there")
}

/// Asks for a pass on a thread that is about to attach; when the interpreter is ending, the thread does not come back.
/// The thread that ends it needs no pass any more.
pub(crate) fn enter_or_park() -> Option<Pass> {
    let pass = enter();
    if pass.is_none() && !THREAD.with(Thread::is_known_as_main) {
        if is_attached() {
            Python::attach(|py| park_attached(py));
        }
        park();
    }
    pass
}

/// The same to call Python, and nothing of the bridge's.
pub(crate) fn enter_to_attach() -> Option<Pass> {
    enter_or_park().map(Pass::outside)
}

impl Pass {
    /// A pass by which the thread is not [inside](is_inside).
    fn outside(mut self) -> Self {
        THREAD.with(|thread| {
            let passes = thread.passes();
            thread.passes.set(Passes { inside: passes.inside - usize::from(self.inside), ..passes });
        });
        self.inside = false;
        self
    }
}

/// Whether this thread is attached to Python.
#[cfg(not(Py_LIMITED_API))]
pub(crate) fn is_attached() -> bool {
    // SAFETY: both may be called by any thread, at any time.
    unsafe { pyo3::ffi::Py_IsInitialized() != 0 && pyo3::ffi::PyGILState_Check() != 0 }
}

/// The stable ABI cannot say: there, a thread that is attached, and comes when the interpreter is ending, keeps it from
/// its end.
#[cfg(Py_LIMITED_API)]
pub(crate) fn is_attached() -> bool {
    false
}

/// Whether this thread is not attached, for certain.
fn is_known_as_detached() -> bool {
    #[cfg(not(Py_LIMITED_API))]
    {
        !is_attached()
    }
    #[cfg(Py_LIMITED_API)]
    {
        // SAFETY: it may be called by any thread, at any time. A thread without a thread state is not attached.
        unsafe { pyo3::ffi::PyGILState_GetThisThreadState().is_null() }
    }
}

/// Whether this thread polls a Rust future of the bridge's, or delivers to an event loop, in this process.
pub(crate) fn is_inside() -> bool {
    THREAD.with(|thread| thread.passes().inside > 0)
}

/// Whether this thread is the one that Python runs signal handlers on.
pub(crate) fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    THREAD.with(|thread| thread.is_main(py))
}

impl Thread {
    /// Those of this process.
    fn passes(&self) -> Passes {
        let passes = self.passes.get();
        if passes.process.is_some_and(Process::is_current) { passes } else { Passes::NONE }
    }

    fn pass(&self, counted: Option<usize>) -> Pass {
        let (passes, process) = (self.passes(), Process::current());
        self.passes.set(Passes {
            all: passes.all + 1,
            inside: passes.inside + 1,
            counted: passes.counted || counted.is_some(),
            process: Some(process),
        });
        Pass { counted, inside: true, process }
    }

    fn counter(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);

        let counter = self.counter.get();
        if counter != usize::MAX {
            return counter;
        }
        let counter = NEXT.fetch_add(1, Ordering::Relaxed) % COUNTERS;
        self.counter.set(counter);
        counter
    }

    fn is_main(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some((is_main, process)) = self.is_main.get() {
            // The thread that forks is the child's main thread.
            if process.is_current() {
                return Ok(is_main);
            }
        }
        let is_main = handles_signals(py)?;
        self.is_main.set(Some((is_main, Process::current())));
        Ok(is_main)
    }

    fn is_known_as_main(&self) -> bool {
        self.is_main.get().is_some_and(|(is_main, _)| is_main)
    }
}

/// Whether Python runs signal handlers on this thread, and ends the interpreter on it.
///
/// `threading.main_thread()` is another one when that module was imported first by another thread, as an embedding
/// program may do. The `signal` module knows: it refuses the thread before it refuses the handler.
fn handles_signals(py: Python<'_>) -> PyResult<bool> {
    // It may be asked for by an object that dies while an exception is on its way.
    let _pending = PendingException::set_aside(py);
    let signal = py.import(intern!(py, "_signal"))?;
    match signal.call_method1(intern!(py, "signal"), (signal.getattr(intern!(py, "SIGINT"))?, py.None())) {
        Err(error) => Ok(error.is_instance_of::<PyTypeError>(py)),
        Ok(_) => unreachable!("None is not a signal handler"),
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // After a fork the thread has forgotten it, and so have the counters.
        if !self.process.is_current() {
            return;
        }
        THREAD.with(|thread| {
            let passes = thread.passes.get();
            thread.passes.set(Passes {
                all: passes.all - 1,
                inside: passes.inside - usize::from(self.inside),
                counted: passes.counted && self.counted.is_none(),
                ..passes
            });
        });
        if let Some(counter) = self.counted {
            leave(counter);
        }
    }
}

/// Comes out of the gate, and tells whoever waits for that.
fn leave(counter: usize) {
    if GATE.leave(counter) {
        AT_GATE.get().tell();
    }
}

/// Gives back the pass that this thread may have, for one who does not come back.
pub(super) fn leave_for_good() {
    THREAD.with(|thread| {
        if thread.passes().all > 0 {
            leave(thread.counter());
        }
    });
}

/// How many of those who are counted at the gate are this thread: none or one.
pub(super) fn counted_here() -> usize {
    THREAD.with(|thread| usize::from(thread.passes().counted))
}

/// This thread ends the interpreter, whichever it is.
pub(super) fn note_main() {
    THREAD.with(|thread| thread.is_main.set(Some((true, Process::current()))));
}
