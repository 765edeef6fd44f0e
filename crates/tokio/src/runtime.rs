//! tokio, as a runtime of the bridge.

use std::{fmt, future::Future, io, mem, sync::Mutex, thread};

use pyo3::{PyErr, PyResult, exceptions::PyRuntimeError};
use pyo3_await::Runtime;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};

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
pub struct Tokio(Handle);

impl Runtime for Tokio {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A task whose handle is dropped runs on.
        self.0.spawn(future);
    }

    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        let _entered = self.0.enter();
        f()
    }
}

/// The runtime that the process uses where none is at hand.
static DEFAULT: Mutex<Default> = Mutex::new(Default::Unset);

enum Default {
    Unset,
    Configured(Box<Builder>),
    InUse(Tokio),
}

impl Tokio {
    /// The runtime of a handle.
    ///
    /// The application owns it: when it is shut down, whoever awaits one of its futures gets an error that says so.
    /// A current-thread runtime must be driven by the application, for instance by a thread in its `block_on`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Starts a runtime that lasts as long as the process.
    ///
    /// A current-thread runtime is driven by a thread of its own.
    ///
    /// # Errors
    ///
    /// What keeps the runtime or its thread from starting.
    pub fn start(mut builder: Builder) -> io::Result<Self> {
        let runtime = builder.build()?;
        let tokio = Self(runtime.handle().clone());
        if runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread {
            thread::Builder::new()
                .name("pyo3-await-tokio".to_owned())
                .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        } else {
            // Dropping it would shut it down.
            mem::forget(runtime);
        }
        Ok(tokio)
    }

    /// The runtime that the calling thread is in, else the process-wide default.
    ///
    /// The default is started on first use: multi-threaded and with all drivers, unless it was
    /// [configured](Self::configure) or [replaced](Self::set_default).
    ///
    /// # Errors
    ///
    /// `RuntimeError` when the default can't be started.
    pub fn current() -> PyResult<Self> {
        match Handle::try_current() {
            Ok(handle) => Ok(Self(handle)),
            Err(_) => Self::default_runtime(),
        }
    }

    /// Has the default runtime built by `builder`, when it is used first.
    ///
    /// # Errors
    ///
    /// [`AlreadyInUse`] when it was used before.
    pub fn configure(builder: Builder) -> Result<(), AlreadyInUse> {
        Self::replace(Default::Configured(Box::new(builder)))
    }

    /// Makes a runtime that the application owns the default.
    ///
    /// # Errors
    ///
    /// [`AlreadyInUse`] when the default was used before.
    pub fn set_default(self) -> Result<(), AlreadyInUse> {
        Self::replace(Default::InUse(self))
    }

    fn replace(new: Default) -> Result<(), AlreadyInUse> {
        let mut default = DEFAULT.lock().expect("nothing panics under the lock");
        if let Default::InUse(_) = *default {
            return Err(AlreadyInUse(()));
        }
        *default = new;
        Ok(())
    }

    fn default_runtime() -> PyResult<Self> {
        let mut default = DEFAULT.lock().expect("nothing panics under the lock");
        let builder = match mem::replace(&mut *default, Default::Unset) {
            Default::InUse(tokio) => {
                *default = Default::InUse(tokio.clone());
                return Ok(tokio);
            }
            Default::Configured(builder) => *builder,
            Default::Unset => {
                let mut builder = Builder::new_multi_thread();
                builder.enable_all();
                builder
            }
        };
        let tokio = Self::start(builder)
            .map_err(|error| PyRuntimeError::new_err(format!("the default tokio runtime can't be started: {error}")))?;
        *default = Default::InUse(tokio.clone());
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
