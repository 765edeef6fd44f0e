//! Waiting for a Rust future in synchronous Python.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use pyo3::prelude::*;

use crate::{
    Runtime, error, event_loop, lifecycle,
    panic::{self, Panic},
    runtime::refuse_left_behind,
};

/// How often the main thread looks for signals while it waits.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// [`RuntimeExt::block_on`](crate::RuntimeExt::block_on).
pub(crate) fn block_on<R, F, T>(py: Python<'_>, runtime: &R, future: F) -> PyResult<T>
where
    R: Runtime,
    F: Future<Output = PyResult<T>> + Send,
    T: Send,
{
    if event_loop::is_running(py)? {
        return Err(error::would_block_the_event_loop());
    }
    if lifecycle::is_inside() || runtime.is_in_task() {
        return Err(error::would_block_the_runtime("block_on"));
    }
    refuse_left_behind(runtime)?;
    lifecycle::install(py)?;
    drop(lifecycle::admit(py)?);
    let signals = lifecycle::is_main_thread(py)?;
    // The pass is kept until this thread has attached again.
    let (result, _pass) = py.detach(|| {
        let result = panic::catch(|| runtime.enter(|| drive(future, signals)));
        (result, lifecycle::enter_or_park())
    });
    result.unwrap_or_else(|panic: Panic| Err(error::panicked(panic)))
}

/// Polls the future on this thread, which is not attached, to its end or that of the process.
fn drive<T>(future: impl Future<Output = PyResult<T>>, signals: bool) -> PyResult<T> {
    // It is there while the future is dropped: what is declared first is dropped last.
    let mut _pass = None;
    let mut future = pin!(future);
    let bell = Arc::new(Bell { rung: AtomicBool::new(false), thread: thread::current() });
    let waker = Waker::from(Arc::clone(&bell));
    let mut cx = Context::from_waker(&waker);
    let mut look = Instant::now() + SIGNAL_INTERVAL;
    let result = loop {
        match panic::catch(|| poll(future.as_mut(), &mut cx)) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(result)) => break result,
            // The future is dropped when this is over, and may panic once more.
            Err(panic) => break Err(error::panicked(panic)),
        }
        if let Err(interrupt) = bell.wait(signals.then_some(&mut look)) {
            break Err(interrupt);
        }
    };
    _pass = lifecycle::enter_or_park();
    result
}

fn poll<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let _pass = lifecycle::enter_or_park();
    future.poll(cx)
}

/// What wakes the waiting thread.
struct Bell {
    /// The thread's own token may be used by the future for something else.
    rung: AtomicBool,
    thread: Thread,
}

impl Bell {
    /// Waits until it has been rung; looks for signals whenever it is time to `look`, if that is this thread's
    /// business.
    ///
    /// # Errors
    ///
    /// What a signal handler raises.
    fn wait(&self, mut look: Option<&mut Instant>) -> PyResult<()> {
        loop {
            if let Some(look) = &mut look {
                let now = Instant::now();
                if now >= **look {
                    Python::attach(|py| py.check_signals())?;
                    **look = Instant::now() + SIGNAL_INTERVAL;
                }
            }
            // Acquire pairs with the release in `wake`.
            if self.rung.swap(false, Ordering::Acquire) {
                return Ok(());
            }
            match &look {
                Some(look) => thread::park_timeout(look.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
