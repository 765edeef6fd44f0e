//! smol, as a runtime of the bridge.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock, Weak},
};

use pyo3::{PyErr, exceptions::PyRuntimeError};
use pyo3_await::{PerProcess, Process, Runtime};
use smol::Executor;

/// A smol executor: the global one, or one of the application's.
///
/// ```
/// use std::{sync::Arc, thread};
///
/// use pyo3::prelude::*;
/// use pyo3_await_smol::{RuntimeExt, Smol};
///
/// # fn main() -> PyResult<()> {
/// # Python::initialize();
/// let executor = Arc::new(smol::Executor::new());
/// let smol = Smol::new(&executor);
///
/// let (stop, stopped) = smol::channel::bounded::<()>(1);
/// thread::spawn(move || smol::block_on(executor.run(stopped.recv())));
///
/// let seven = Python::attach(|py| smol.run(py, async { Ok(7) }))?;
/// assert_eq!(seven, 7);
/// # drop(stop);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Smol(Which);

#[derive(Clone, Debug)]
enum Which {
    Global,
    /// Futures that wait in an executor hold this value: if it kept the executor, nothing could end them.
    ///
    /// With the process that its threads are in.
    Own(Weak<Executor<'static>>, Process),
}

/// Whether the threads of the global executor and the reactor are in this process, and not in one that has forked it.
static STARTED_HERE: PerProcess<bool> = PerProcess::new(|parents| parents.is_none());

impl Runtime for Smol {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A task is cancelled when its handle is dropped, unless it is detached.
        match &self.0 {
            // So it is in a forked child, which has neither the threads of an executor nor that of the reactor.
            _ if self.is_left_behind() => drop(future),
            Which::Global => smol::spawn(future).detach(),
            Which::Own(executor, _) => match executor.upgrade() {
                Some(executor) => executor.spawn(future).detach(),
                // To drop it is to tell its awaiter that the runtime has shut down.
                None => drop(future),
            },
        }
    }

    // The default `enter` does: timers and sockets register with a reactor that has a thread of its own and serves the
    // whole process, and look for nothing in the thread that polls them.

    fn is_left_behind(&self) -> bool {
        // The reactor is one for all: without its thread, timers and sockets in any executor would wait for ever.
        !*STARTED_HERE.get() || matches!(&self.0, Which::Own(_, process) if !process.is_current())
    }
}

/// The executor that the free functions use. A forked child whose parent has not used it may hand over another.
static DEFAULT: PerProcess<OnceLock<Smol>> = PerProcess::new(|_| OnceLock::new());

impl Smol {
    /// An executor of the application's.
    ///
    /// The application keeps it, and runs it on threads of its own.
    /// When it drops it, whoever awaits one of its futures gets an error that says so.
    ///
    /// In a process that was forked after its parent had used smol through the bridge, none can be used, as with the
    /// [global](Self::global) one: they share a thread that waits for timers and sockets, and the child has none.
    #[must_use]
    pub fn new(executor: &Arc<Executor<'static>>) -> Self {
        Self(Which::Own(Arc::downgrade(executor), Process::current()))
    }

    /// smol's global executor, which starts on first use and lasts as long as the process.
    ///
    /// It has one thread, or as many as the environment variable `SMOL_THREADS` says.
    ///
    /// In a process that was forked after its parent had used it, it cannot be used: a Rust future that is awaited
    /// there raises `RuntimeError`.
    #[must_use]
    pub fn global() -> Self {
        Self(Which::Global)
    }

    /// The process-wide default: the global executor, unless it was [replaced](Self::set_default).
    #[must_use]
    pub fn current() -> Self {
        DEFAULT.get().get_or_init(Self::global).clone()
    }

    /// Makes this the default.
    ///
    /// # Errors
    ///
    /// [`AlreadyInUse`] when the default was used or set before.
    pub fn set_default(self) -> Result<(), AlreadyInUse> {
        DEFAULT.get().set(self).map_err(|_| AlreadyInUse(()))
    }
}

/// The default executor cannot be changed any more: it has been used, or set.
#[derive(Debug)]
pub struct AlreadyInUse(());

impl fmt::Display for AlreadyInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the default smol executor is in use already: replace it before the first future is started")
    }
}

impl std::error::Error for AlreadyInUse {}

impl From<AlreadyInUse> for PyErr {
    fn from(error: AlreadyInUse) -> Self {
        PyRuntimeError::new_err(error.to_string())
    }
}
