//! tokio, as a runtime of the bridge.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    io, mem,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use pyo3::{PyErr, PyResult, Python, exceptions::PyRuntimeError};
use pyo3_await::{PerProcess, Process};
use tokio::{
    runtime::{Builder, Handle, Id, Runtime, RuntimeFlavor},
    sync::oneshot,
    task::{self, coop},
};

/// A tokio runtime, by its handle.
///
/// ```
/// use pyo3_await_tokio::{RuntimeExt, Tokio};
///
/// let own = tokio::runtime::Runtime::new()?;
/// let tokio = Tokio::new(own.handle().clone());
/// # let _ = tokio;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokio {
    handle: Kept,
    /// Where its threads are.
    process: Process,
}

/// A handle, which most have of the default runtime: not to count those is a good part of what a call costs.
#[derive(Clone)]
enum Kept {
    Counted(Handle),
    /// The process keeps it.
    Shared(&'static Handle),
}

/// Who keeps it is nobody's business.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Deref for Kept {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        match self {
            Self::Counted(handle) => handle,
            Self::Shared(handle) => handle,
        }
    }
}

impl pyo3_await::Runtime for Tokio {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // In a forked child, to drop the future is to tell its awaiter that the runtime is not there.
        if !self.is_left_behind() {
            // A task whose handle is dropped runs on.
            self.handle.spawn(future);
        }
    }

    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        f()
    }

    fn is_in_task(&self) -> bool {
        let Some(current) = at_hand() else { return false };
        // The future of a runtime's own `block_on` is no task; it drives a current-thread runtime.
        let drives = current.id() == self.handle.id() && current.runtime_flavor() == RuntimeFlavor::CurrentThread;
        (drives || task::try_id().is_some()) && is_budgeted()
    }

    fn is_left_behind(&self) -> bool {
        !self.process.is_current()
    }
}

/// Whether tokio polls a future here: what runs in `spawn_blocking` and in `block_in_place` has the id of a task too,
/// but no budget.
fn is_budgeted() -> bool {
    /// More than tokio gives a task: what is asked for without a budget is granted for ever.
    const MORE: usize = 256;

    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = Vec::new();
    let budgeted = loop {
        match coop::poll_proceed(&mut cx) {
            Poll::Pending => break true,
            Poll::Ready(_) if taken.len() == MORE => break false,
            Poll::Ready(proceed) => taken.push(proceed),
        }
    };
    // Each gives back what was there before it.
    while taken.pop().is_some() {}
    budgeted
}

thread_local! {
    /// The runtime that this thread was in when it forked this process: it has come without its threads.
    static LEFT_BEHIND: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Has forks noticed from now on.
fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);

    extern "C" fn forked() {
        LEFT_BEHIND.set(Handle::try_current().ok().map(|handle| handle.id()));
    }

    if !WATCHED.load(Ordering::Relaxed) && !WATCHED.swap(true, Ordering::Relaxed) {
        Process::after_fork(forked);
    }
}

/// The runtime that the calling thread is in.
fn at_hand() -> Option<Handle> {
    watch();
    Handle::try_current().ok().filter(|handle| LEFT_BEHIND.get() != Some(handle.id()))
}

/// The runtime that the process uses where none is at hand.
static DEFAULT: PerProcess<Defaults> = PerProcess::new(|parents| {
    // A lock that is held for longer stays so: its thread is not in this process. For a moment it is held by another
    // thread that comes here.
    let parents = parents.and_then(|parents| {
        (0..100).find_map(|_| match parents.now.try_lock() {
            Ok(now) => Some(now),
            Err(TryLockError::Poisoned(now)) => Some(now.into_inner()),
            Err(TryLockError::WouldBlock) => {
                thread::yield_now();
                None
            }
        })
    });
    let now = match parents.as_deref() {
        Some(Default::Given(_) | Default::LeftBehind) => Default::LeftBehind,
        Some(Default::Configured(builder) | Default::Started(_, _, builder)) => {
            Default::Configured(Arc::clone(builder))
        }
        Some(Default::Unset) | None => Default::Unset,
    };
    Defaults { first: OnceLock::new(), first_stopped: AtomicBool::new(false), now: Mutex::new(now) }
});

/// The default runtime, and how it is found without a lock: by nearly everybody, since few are ever stopped.
struct Defaults {
    first: OnceLock<Tokio>,
    first_stopped: AtomicBool,
    now: Mutex<Default>,
}

impl Defaults {
    fn lock(&self) -> MutexGuard<'_, Default> {
        // To build a runtime may panic, as where there can be no more threads. Nothing has been changed then.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first(&'static self) -> Option<Tokio> {
        let tokio = self.first.get().filter(|_| !self.first_stopped.load(Ordering::Relaxed))?;
        Some(Tokio { handle: Kept::Shared(&tokio.handle), process: tokio.process })
    }
}

enum Default {
    Unset,
    Configured(Arc<Mutex<Builder>>),
    /// What the builder built; a forked child builds another.
    Started(Tokio, Threads, Arc<Mutex<Builder>>),
    /// The application's own.
    Given(Tokio),
    /// The application's own, in a forked child.
    LeftBehind,
}

/// The threads of a runtime, which run until they are told to stop.
#[derive(Debug)]
pub(crate) enum Threads {
    Many(Runtime),
    /// It is told how long it may wait for those that block, and says when it has ended.
    One(oneshot::Sender<Duration>, mpsc::Receiver<()>),
}

impl Threads {
    /// Tells them to stop, and waits for them, so long at the most.
    pub(crate) fn stop(self, timeout: Duration) {
        match self {
            Self::Many(runtime) => runtime.shutdown_timeout(timeout),
            Self::One(stop, stopped) => {
                let _ = stop.send(timeout);
                // It ends by an error: nothing is sent.
                let _ = stopped.recv_timeout(timeout);
            }
        }
    }
}

impl Tokio {
    /// The runtime of a handle.
    ///
    /// Call it in the process that has started the runtime, and keep the value: it remembers where the threads are, and
    /// raises in a forked child, where a handle that is wrapped anew would wait for them without end.
    ///
    /// The application owns it: when it is shut down, whoever awaits one of its futures gets an error that says so.
    /// A current-thread runtime must be driven by the application, for instance by a thread in its `block_on`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        watch();
        Self { handle: Kept::Counted(handle), process: Process::current() }
    }

    /// The handle of the runtime, for what the bridge has no call for: `spawn_blocking`, `spawn` with a join handle,
    /// metrics.
    ///
    /// Tasks that are spawned by it are the runtime's and not the bridge's: they have no
    /// [`TaskLocals`](pyo3_await::TaskLocals), and the end of the interpreter does not wait for them.
    /// In a forked child it is still the parent's, whose threads are not there.
    ///
    /// ```
    /// # pyo3::Python::initialize();
    /// let workers = pyo3_await_tokio::current_runtime()?.handle().metrics().num_workers();
    /// assert!(workers > 0);
    /// # pyo3::PyResult::Ok(())
    /// ```
    #[doc(alias = "get_runtime")]
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Starts a runtime that lasts as long as the process.
    ///
    /// A current-thread runtime is driven by a thread of its own.
    ///
    /// # Errors
    ///
    /// What keeps the runtime or its thread from starting.
    pub fn start(mut builder: Builder) -> io::Result<Self> {
        let (tokio, threads) = Self::build(&mut builder)?;
        // Dropping them would shut it down.
        mem::forget(threads);
        Ok(tokio)
    }

    pub(crate) fn build(builder: &mut Builder) -> io::Result<(Self, Threads)> {
        let runtime = builder.build()?;
        let tokio = Self::new(runtime.handle().clone());
        if runtime.handle().runtime_flavor() != RuntimeFlavor::CurrentThread {
            return Ok((tokio, Threads::Many(runtime)));
        }
        let (stop, stopping) = oneshot::channel();
        let (ended, stopped) = mpsc::channel();
        thread::Builder::new().name("pyo3-await-tokio".to_owned()).spawn(move || {
            let _ended: mpsc::Sender<()> = ended;
            if let Ok(timeout) = runtime.block_on(stopping) {
                runtime.shutdown_timeout(timeout);
            }
        })?;
        Ok((tokio, Threads::One(stop, stopped)))
    }

    /// The runtime that the calling thread is in, else the process-wide default.
    ///
    /// The default is started on first use: multi-threaded and with all drivers, unless it was
    /// [configured](Self::configure) or [replaced](Self::set_default).
    ///
    /// A process that was forked starts a default of its own, built in the same way.
    ///
    /// # Errors
    ///
    /// `RuntimeError` when the default can't be started; and in a forked process whose parent had
    /// [replaced](Self::set_default) it, until the child does so too.
    pub fn current() -> PyResult<Self> {
        at_hand().map_or_else(Self::default_runtime, |handle| Ok(Self::new(handle)))
    }

    /// Has the default runtime built by `builder`, when it is used first.
    ///
    /// # Errors
    ///
    /// [`AlreadyInUse`] when it was used, or [replaced](Self::set_default), before.
    #[doc(alias = "init")]
    pub fn configure(builder: Builder) -> Result<(), AlreadyInUse> {
        Self::replace(Default::Configured(Arc::new(Mutex::new(builder))))
    }

    /// Makes a runtime that the application owns the default.
    ///
    /// # Errors
    ///
    /// [`AlreadyInUse`] when the default was used, or replaced, before.
    #[doc(alias = "init_with_runtime")]
    pub fn set_default(self) -> Result<(), AlreadyInUse> {
        Self::replace(Default::Given(self))
    }

    /// Stops the default runtime, if the bridge has started it, and waits for its threads, `timeout` at the most.
    ///
    /// Futures that have not ended are dropped: whoever awaits them gets an error that says so.
    /// A thread that blocks for longer is left to itself.
    /// The next use of the default starts another one, built in the same way.
    ///
    /// It is not needed at the end of a program: when the interpreter ends, nothing more is polled.
    ///
    /// # Errors
    ///
    /// `RuntimeError` in a task of a tokio runtime, which would wait for itself, and in the future of tokio's own
    /// `block_on`, where tokio does not let a runtime be shut down.
    pub fn shutdown(py: Python<'_>, timeout: Duration) -> PyResult<()> {
        if task::try_id().is_some() || is_budgeted() {
            return Err(PyRuntimeError::new_err(
                "Tokio::shutdown was called by a tokio task, which would wait for itself: call it in another thread",
            ));
        }
        let mut default = DEFAULT.get().lock();
        let old = mem::replace(&mut *default, Default::Unset);
        let Default::Started(_, threads, builder) = old else {
            *default = old;
            return Ok(());
        };
        DEFAULT.get().first_stopped.store(true, Ordering::Relaxed);
        *default = Default::Configured(builder);
        drop(default);
        // Futures may attach, and so may what is dropped with them.
        py.detach(|| threads.stop(timeout));
        Ok(())
    }

    fn replace(new: Default) -> Result<(), AlreadyInUse> {
        let mut default = DEFAULT.get().lock();
        if let Default::Started(..) | Default::Given(_) = *default {
            return Err(AlreadyInUse(()));
        }
        *default = new;
        Ok(())
    }

    fn default_runtime() -> PyResult<Self> {
        let defaults = DEFAULT.get();
        if let Some(tokio) = defaults.first() {
            return Ok(tokio);
        }
        let mut default = defaults.lock();
        let builder = match &*default {
            Default::Started(tokio, ..) => return Ok(tokio.clone()),
            Default::Given(tokio) => {
                let _ = defaults.first.set(tokio.clone());
                return Ok(tokio.clone());
            }
            Default::LeftBehind => {
                return Err(PyRuntimeError::new_err(
                    "the tokio runtime of the application was left behind by os.fork(): its threads are in the parent \
                     process only; start another in the child and hand it over by Tokio::set_default",
                ));
            }
            Default::Configured(builder) => Arc::clone(builder),
            Default::Unset => {
                let mut builder = Builder::new_multi_thread();
                builder.enable_all();
                Arc::new(Mutex::new(builder))
            }
        };
        let (tokio, threads) = Self::build(&mut builder.lock().unwrap_or_else(PoisonError::into_inner))
            .map_err(|error| PyRuntimeError::new_err(format!("the default tokio runtime can't be started: {error}")))?;
        // Another may have been the first, and been stopped.
        let _ = defaults.first.set(tokio.clone());
        *default = Default::Started(tokio.clone(), threads, builder);
        Ok(tokio)
    }
}

impl From<Handle> for Tokio {
    fn from(handle: Handle) -> Self {
        Self::new(handle)
    }
}

/// The default runtime cannot be changed any more: it has been used.
#[derive(Debug)]
pub struct AlreadyInUse(());

impl fmt::Display for AlreadyInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the default tokio runtime is in use already: configure or replace it before the first future is started",
        )
    }
}

impl std::error::Error for AlreadyInUse {}

impl From<AlreadyInUse> for PyErr {
    fn from(error: AlreadyInUse) -> Self {
        PyRuntimeError::new_err(error.to_string())
    }
}
