//! What Python calls when it ends and when it forks, and how it comes to know of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use pyo3::{
    prelude::*,
    types::{PyCFunction, PyDict},
};

use super::{
    AT_GATE, GATE, Meeting, PerProcess, Process,
    pass::{self, is_main_thread},
};
use crate::{
    asyncio_future, error, event_loop, future,
    once::{self, intern},
    panic,
};

/// How long the end of the interpreter waits for polls and drains that are under way.
const EXIT_BOUND: Duration = Duration::from_secs(5);

/// How long a fork waits for another thread that uses the bridge for the first time.
const INSTALL_BOUND: Duration = Duration::from_secs(1);

/// How long a fork waits for polls that are under way: some block, and then it has to do.
const POLL_BOUND: Duration = Duration::from_millis(50);

/// Whether the interpreter tells us of its end and of forks.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Has the interpreter tell us of its end and of forks, from the first use of the bridge on.
///
/// Python calls what is registered last first: what an application registers later still finds the bridge working.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    once::refuse_subinterpreter(py)?;
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
    super::thread_states::unlock_in_children(py);
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
    pass::leave_for_good();
    pass::park_attached(py)
}

/// What a forked child has to do first. Nothing but atomic operations: other threads' locks may be held for ever.
#[cfg(unix)]
pub(super) fn begin_anew() {
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
    let own = pass::counted_here();
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
    pass::note_main();
    GATE.close();
    // Those who are in may have to attach before they come out.
    py.detach(|| AT_GATE.get().wait(EXIT_BOUND, |_| GATE.inside() == 0));
}
