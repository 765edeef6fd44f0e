//! One run of one test: how it is started, and how it ended.

use std::{
    fmt,
    future::{self, Future},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    task::Poll,
    time::Duration,
};

use futures::{FutureExt as _, channel::oneshot};
use libtest_mimic::Failed;
use pyo3::prelude::*;
use pyo3_await::{
    PythonFuture, Runtime, TaskLocals,
    private::{Failure, Output},
    scope,
};

use crate::{
    panics::{self, Panic},
    python::{self, Mark},
};

/// How a test ended by itself.
#[derive(Debug)]
pub(crate) enum Ending {
    /// With the failure's text, if it was one.
    Returned(Result<(), String>),
    Panicked(Panic),
    /// It did not start.
    Refused(String),
}

/// What a running test looks like from outside.
pub(crate) struct Running {
    pub(crate) path: String,
    /// `None` for a test that is not async.
    pub(crate) mark: Option<Mark>,
    /// True while the test has a thread: during each poll, or all the time.
    /// Only the test's own thread writes it, and it carries nothing but itself, so that `Relaxed` will do.
    busy: AtomicBool,
    /// Has a thread of the test's runtime send something. It is set when an async test is started.
    ask: OnceLock<Box<dyn Fn(mpsc::Sender<()>) + Send + Sync>>,
}

/// What an async test tells the thread that waits for it, in this order.
#[derive(Debug)]
pub(crate) enum Event {
    Ended(Ending),
    /// Nothing is left of it in Python, unless that failed.
    CleanedUp(PyResult<()>),
}

/// Starts an async test.
#[derive(Debug)]
pub struct AsyncStart {
    pub(crate) running: Arc<Running>,
    pub(crate) locals: TaskLocals,
    pub(crate) clean_up: PythonFuture,
    pub(crate) events: mpsc::Sender<Event>,
    /// Ready when the test has no more time.
    pub(crate) aborted: oneshot::Receiver<()>,
}

/// Runs a test that is not async.
#[derive(Debug)]
pub struct SyncStart {
    pub(crate) running: Arc<Running>,
    pub(crate) ending: mpsc::Sender<Ending>,
}

impl AsyncStart {
    /// Starts the test on its runtime.
    pub fn on<R, F>(self, runtime: PyResult<R>, test: impl FnOnce() -> F)
    where
        R: Runtime,
        F: Future<Output: Output> + Send + 'static,
    {
        let running = Arc::clone(&self.running);
        match runtime {
            Ok(runtime) => {
                let test = self.drive(Box::pin(test().map(result)));
                // One that is the test's own lasts as long as it.
                let kept = runtime.clone();
                runtime.spawn(test.map(|()| drop(kept)));
                running.can_be_asked_on(runtime);
            }
            Err(error) => {
                let why = Python::attach(|py| python::traceback(py, &error));
                self.tell(Event::Ended(Ending::Refused(format!("the test's runtime can't be started: {why}"))));
            }
        }
    }

    /// Runs the test to its end or to the end of its time, and clears up behind it.
    async fn drive(mut self, test: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>) {
        let test = scope(self.locals.clone(), test);
        if let Some(ending) = self.settle(Box::pin(test)).await {
            self.tell(Event::Ended(ending));
        }
        let cleaned_up = (&mut self.clean_up).await;
        self.tell(Event::CleanedUp(cleaned_up.map(drop)));
    }

    /// `None` when the test had no more time.
    async fn settle(&mut self, test: Pin<Box<impl Future<Output = Result<(), String>>>>) -> Option<Ending> {
        let mut test = Some(test);
        let running = Arc::clone(&self.running);
        let ending = future::poll_fn(|cx| {
            let Some(future) = &mut test else { return Poll::Ready(None) };
            if self.aborted.poll_unpin(cx).is_ready() {
                return Poll::Ready(None);
            }
            match running.busy(|| panics::catch(|| future.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => Poll::Ready(Some(Ending::Returned(result))),
                Err(panic) => Poll::Ready(Some(Ending::Panicked(panic))),
            }
        })
        .await;
        // What the test holds may panic when it is dropped, and a future that is spawned must not.
        match running.busy(|| panics::catch(|| drop(test.take()))) {
            Ok(()) => ending,
            Err(panic) => ending.map(|_| Ending::Panicked(panic)),
        }
    }

    fn tell(&self, event: Event) {
        // Nobody waits any more for a test that had a whole timeout more than its time.
        let _ = self.events.send(event);
    }
}

impl SyncStart {
    /// Runs the test, here.
    pub fn here<O: Output>(self, test: impl FnOnce() -> O) {
        let ending = match self.running.busy(|| panics::catch(|| result(test()))) {
            Ok(result) => Ending::Returned(result),
            Err(panic) => Ending::Panicked(panic),
        };
        // Nobody waits any more for a test that had no more time.
        let _ = self.ending.send(ending);
    }
}

impl Running {
    pub(crate) fn new(path: String, mark: Option<Mark>) -> Arc<Self> {
        Arc::new(Self { path, mark, busy: AtomicBool::new(false), ask: OnceLock::new() })
    }

    fn can_be_asked_on(&self, runtime: impl Runtime) {
        let _ = self.ask.set(Box::new(move |sender| {
            runtime.spawn(async move {
                // Nobody waits any more for an answer that took too long.
                let _ = sender.send(());
            });
        }));
    }

    /// Whether the test's runtime, if it has one, has a thread that gets free in this time.
    pub(crate) fn is_answered(&self, time: Duration) -> bool {
        let Some(ask) = self.ask.get() else { return true };
        let (sender, answer) = mpsc::channel();
        ask(sender);
        // A runtime that was shut down has dropped the sender, and the test.
        answer.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }

    /// Whether the test has a thread now.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    fn busy<T>(&self, f: impl FnOnce() -> T) -> T {
        self.busy.store(true, Ordering::Relaxed);
        let value = f();
        self.busy.store(false, Ordering::Relaxed);
        value
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("path", &self.path).field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl Ending {
    /// What it means for the test.
    pub(crate) fn judge(self, should_panic: Option<Option<&str>>) -> Result<(), Failed> {
        match (self, should_panic) {
            (Self::Returned(result), None) => result.map_err(Failed::from),
            (Self::Returned(Ok(())), Some(_)) => Err("test did not panic as expected".into()),
            (Self::Returned(Err(error)), Some(_)) => {
                Err(format!("test did not panic as expected, but returned an error\n{error}").into())
            }
            (Self::Panicked(panic), None) => Err(panic.to_string().into()),
            (Self::Panicked(_), Some(None)) => Ok(()),
            (Self::Panicked(panic), Some(Some(expected))) => match &panic.message {
                Some(message) if message.contains(expected) => Ok(()),
                _ => Err(format!("panic did not contain the expected string {expected:?}\n{panic}").into()),
            },
            (Self::Refused(why), _) => Err(why.into()),
        }
    }
}

/// A test's output, with the text of a failure, which is made while the test still runs: it may call into Python.
fn result(output: impl Output) -> Result<(), String> {
    output.into_result().map_err(|failure| match failure {
        Failure::Python(error) => Python::attach(|py| python::traceback(py, &error)),
        Failure::Rust(error) => format!("Error: {error}"),
    })
}
