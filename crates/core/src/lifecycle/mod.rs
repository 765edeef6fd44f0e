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

mod gate;
mod primitives;
mod process;
#[cfg(all(target_os = "linux", not(Py_3_12)))]
mod thread_states;

use std::{
    cell::Cell,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyCFunction, PyDict},
};

use self::gate::{Counter, Gate};
pub use self::process::{PerProcess, Process};
use crate::{asyncio_future, class::PendingException, error, event_loop, future, once::intern, panic};

/// How long the end of the interpreter waits for polls and drains that are under way.
const EXIT_BOUND: Duration = Duration::from_secs(5);

/// Each thread has one of the gate's counters for good.
const COUNTERS: usize = 16;

/// How long a fork waits for another thread that uses the bridge for the first time.
const INSTALL_BOUND: Duration = Duration::from_secs(1);

/// How long a fork waits for polls that are under way: some block, and then it has to do.
const POLL_BOUND: Duration = Duration::from_millis(50);

/// How long a poll waits for a fork, which may have other things to wait for.
const FORK_BOUND: Duration = Duration::from_secs(1);

static GATE: Gate<COUNTERS> = Gate([const { Counter(AtomicUsize::new(0)) }; COUNTERS]);

/// Where the end of the interpreter, or a fork, waits for those who are in, and they for the fork; with the number of
/// forks that are under way. Whoever has the lock does not wait for the interpreter.
static AT_GATE: PerProcess<Meeting> = PerProcess::new(|_| Meeting::default());

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
fn park_attached(py: Python<'_>) -> ! {
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

/// The rest of this thread's life, when the interpreter is ending. It must not be attached.
fn park() -> ! {
    loop {
        thread::park();
    }
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
        let Some(counter) = self.counted else { return };
        if GATE.leave(counter) {
            AT_GATE.get().tell();
        }
    }
}

/// A future of the user's that is polled, and dropped, only as long as Python may be touched, and that does not panic.
pub(crate) struct Admitted<F>(Option<Pin<Box<F>>>);

impl<F> Admitted<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }

    fn end(&mut self) {
        // The panic hook has told of a panic; nobody waits for this future.
        let _ = panic::catch(|| self.0 = None);
    }
}

impl<F: Future<Output = ()>> Future for Admitted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(_pass) = enter() else { return Poll::Pending };
        let Some(future) = &mut self.0 else { return Poll::Ready(()) };
        if let Ok(Poll::Pending) = panic::catch(|| future.as_mut().poll(cx)) {
            return Poll::Pending;
        }
        self.end();
        Poll::Ready(())
    }
}

impl<F> Drop for Admitted<F> {
    fn drop(&mut self) {
        match enter() {
            Some(_pass) => self.end(),
            None => mem::forget(self.0.take()),
        }
    }
}

/// Whether the interpreter tells us of its end and of forks.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Refuses an interpreter that is not the main one: of what is static here, and in PyO3, each would need its own.
fn refuse_subinterpreter(_: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread is attached.
    let id = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    if id == 0 { Ok(()) } else { Err(error::in_subinterpreter()) }
}

/// Has the interpreter tell us of its end and of forks, from the first use of the bridge on.
///
/// Python calls what is registered last first: what an application registers later still finds the bridge working.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    refuse_subinterpreter(py)?;
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    let installing = Installing::begin();
    let exit = PyCFunction::new_closure(py, None, None, |arguments, _| at_exit(arguments.py()))?;
    let before = PyCFunction::new_closure(py, None, None, |arguments, _| before_fork(arguments.py()))?;
    let after = PyCFunction::new_closure(py, None, None, |_, _| after_fork_in_parent())?;
    let os = py.import(intern!(py, "os"))?;
    if let Some(register) = os.getattr_opt(intern!(py, "register_at_fork"))? {
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "before"), before)?;
        keywords.set_item(intern!(py, "after_in_parent"), after)?;
        register.call((), Some(&keywords))?;
    }
    py.import(intern!(py, "atexit"))?.call_method1(intern!(py, "register"), (exit,))?;
    #[cfg(all(target_os = "linux", not(Py_3_12)))]
    thread_states::unlock_in_children(py);
    // PyO3 makes the types of exceptions, and parts of others, under a lock and with no hold on the interpreter: a
    // child that is forked then could not make them.
    event_loop::make_types(py);
    asyncio_future::make_types(py);
    future::make_types(py);
    error::make_types(py);
    panic::listen(py);
    if may_be_calling_exit_functions(py)? {
        if is_main_thread(py)? {
            close_when_forgotten(py)?;
        } else if is_ended_with_the_interpreter(py)? {
            drop(installing);
            stay_outside(py);
        }
    }
    // Two threads may have come here at once: to be told twice does no harm.
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

/// Whether the interpreter may be calling its exit functions already: what is registered from then on it does not call.
///
/// They come after `threading` has begun to shut down, which waits for all threads but the daemons.
///
/// No Python code runs here: that may let go of the interpreter, which may end the thread then, with our frames on it.
fn may_be_calling_exit_functions(py: Python<'_>) -> PyResult<bool> {
    let ending = py.import(intern!(py, "threading"))?.getattr_opt(intern!(py, "_SHUTTING_DOWN"))?;
    ending.map_or(Ok(false), |ending| ending.is_truthy())
}

/// Whether the interpreter does not wait for this thread, which is not the main one, but ends it. No Python code runs
/// here either.
fn is_ended_with_the_interpreter(py: Python<'_>) -> PyResult<bool> {
    let ident = py.import(intern!(py, "_thread"))?.call_method0(intern!(py, "get_ident"))?;
    let threads = py.import(intern!(py, "threading"))?.getattr(intern!(py, "_active"))?.cast_into::<PyDict>()?;
    // Nobody waits for one that `threading` does not know.
    let Some(thread) = threads.get_item(ident)? else { return Ok(true) };
    thread.getattr(intern!(py, "_daemonic"))?.is_truthy()
}

/// An exit function was the first to use the bridge.
static CLOSES_WHEN_FORGOTTEN: AtomicBool = AtomicBool::new(false);

/// For an exit function that is the first to use the bridge: closes the gate after the last of them.
///
/// What they register is not called, but `atexit` forgets it with all the others when it has called these.
fn close_when_forgotten(py: Python<'_>) -> PyResult<()> {
    struct Forgotten(Process);

    impl Drop for Forgotten {
        fn drop(&mut self) {
            if self.0.is_current() {
                Python::attach(at_exit);
            }
        }
    }

    CLOSES_WHEN_FORGOTTEN.store(true, Ordering::Release);
    let forgotten = Forgotten(Process::current());
    let never_called = PyCFunction::new_closure(py, None, None, move |_, _| {
        let _kept = &forgotten;
    })?;
    py.import(intern!(py, "atexit"))?.call_method1(intern!(py, "register"), (never_called,))?;
    Ok(())
}

/// The rest of the life of a thread that has come to the bridge, first of all threads, when the interpreter is ending.
///
/// Nobody else closes the gate. The thread may have a pass, which it will not give back.
fn stay_outside(py: Python<'_>) -> ! {
    GATE.close();
    THREAD.with(|thread| {
        if thread.passes().all > 0 && GATE.leave(thread.counter()) {
            AT_GATE.get().tell();
        }
    });
    park_attached(py)
}

/// What a forked child has to do first. Nothing but atomic operations: other threads' locks may be held for ever.
#[cfg(unix)]
fn begin_anew() {
    // The fork was made by an exit function, after ours or in its place: nobody would tell the child of its own end.
    if CLOSES_WHEN_FORGOTTEN.swap(false, Ordering::AcqRel) || GATE.is_closed() {
        INSTALLED.store(false, Ordering::Release);
    }
    GATE.reopen();
}

/// How many threads are in [`install`], and where a fork waits for them.
static INSTALLING: PerProcess<Meeting> = PerProcess::new(|_| Meeting::default());

/// A thread that is there, with what it is counted by.
struct Installing(&'static Meeting);

impl Installing {
    fn begin() -> Self {
        let counted = INSTALLING.get();
        *counted.lock() += 1;
        Self(counted)
    }
}

impl Drop for Installing {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}

/// What Python calls before it forks.
fn before_fork(py: Python<'_>) {
    py.detach(|| INSTALLING.get().wait(INSTALL_BOUND, |installing| installing == 0));
    let gate = AT_GATE.get();
    {
        let mut forks = gate.lock();
        *forks += 1;
        GATE.pause();
    }
    // A poll that forks is in itself.
    let own = THREAD.with(|thread| usize::from(thread.passes().counted));
    let deadline = Instant::now() + POLL_BOUND;
    // Threads that are attached go in all the same, until this one is.
    while GATE.inside() > own {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
        // Those who are in may have to attach before they come out.
        py.detach(|| gate.wait(left, |_| GATE.inside() <= own));
    }
}

/// What it calls after that, in the process that has forked.
fn after_fork_in_parent() {
    let gate = AT_GATE.get();
    let mut forks = gate.lock();
    // The first use of the bridge may have come between.
    *forks = forks.saturating_sub(1);
    if *forks == 0 {
        GATE.resume();
        gate.changed.notify_all();
    }
}

/// What Python calls before it ends.
fn at_exit(py: Python<'_>) {
    // If an application ends its exit functions early, on whichever thread, that thread goes on.
    THREAD.with(|thread| thread.is_main.set(Some((true, Process::current()))));
    GATE.close();
    // Those who are in may have to attach before they come out.
    py.detach(|| AT_GATE.get().wait(EXIT_BOUND, |_| GATE.inside() == 0));
}
