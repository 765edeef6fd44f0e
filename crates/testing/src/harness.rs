//! Runs tests, each under its own name and within its own time.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use futures::channel::oneshot;
use libtest_mimic::Failed;
use pyo3::prelude::*;

use crate::{
    attempt::{AsyncStart, Event, Running, SyncStart},
    python::{Mark, Seat, Tasks},
    registry::{Body, Test},
    timeout,
};

/// What all tests of a run share.
#[derive(Debug)]
pub(crate) struct Harness {
    tasks: Arc<Tasks>,
    /// The timeout of a test that has none of its own.
    timeout: Option<Duration>,
    /// The tests that have begun and not ended, those that ran out of time included.
    running: Mutex<Vec<Arc<Running>>>,
    /// How many async tests have not given back their thread in time. It carries nothing but itself: `Relaxed`.
    keep_their_thread: AtomicUsize,
}

/// How often the others look whether there is one more.
const LOOK: Duration = Duration::from_secs(1);

/// How long a runtime has to find a thread for a test then.
const PATIENCE: Duration = Duration::from_secs(5);

impl Harness {
    pub(crate) fn new(py: Python<'_>, timeout: Option<Duration>) -> PyResult<Self> {
        Ok(Self {
            tasks: Arc::new(Tasks::watch(py)?),
            timeout,
            running: Mutex::default(),
            keep_their_thread: AtomicUsize::new(0),
        })
    }

    /// Runs one test, and waits for it.
    pub(crate) fn run(&self, path: String, test: &Test, seat: Seat) -> Result<(), Failed> {
        let timeout = test.timeout.or(self.timeout);
        match test.body {
            Body::Async(start) => self.run_async(path, test, seat, start, timeout),
            Body::Sync(start) => self.run_sync(path, test, start, timeout),
        }
    }

    fn run_async(
        &self,
        path: String,
        test: &Test,
        Seat { locals, mark, clean_up, left }: Seat,
        start: fn(AsyncStart),
        timeout: Option<Duration>,
    ) -> Result<(), Failed> {
        let running = self.begin(path, Some(mark));
        let (events, received) = mpsc::channel();
        let (abort, aborted) = oneshot::channel();
        start(AsyncStart { running: Arc::clone(&running), locals, clean_up, events, aborted });

        let result = match self.receive_from(&running, &received, timeout)? {
            Ok(Event::Ended(ending)) => ending.judge(test.should_panic),
            Err(Silence::Timeout(timeout)) => {
                // The test is dropped at its next poll, and what it awaits in Python is cancelled.
                drop(abort);
                self.expect_answer(timeout);
                Err(out_of_time(timeout))
            }
            Ok(Event::CleanedUp(_)) | Err(Silence::Dropped) => {
                self.end(&running);
                return Err(DROPPED.into());
            }
        };
        loop {
            match receive(&received, timeout.map(timeout::grace)) {
                // Its time was just up.
                Ok(Event::Ended(_)) => continue,
                Ok(Event::CleanedUp(result)) => {
                    self.end(&running);
                    name_left_behind(&running.path, result, &left.try_iter().collect::<Vec<_>>());
                }
                Err(Silence::Timeout(grace)) => {
                    self.expect_answer(grace);
                    // The loop is not in the way, so the test is in a poll that does not end, and goes on running.
                    if running.is_busy() {
                        self.keep_their_thread.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(Silence::Dropped) => self.end(&running),
            }
            break;
        }
        result
    }

    fn run_sync(
        &self,
        path: String,
        test: &Test,
        start: fn(SyncStart),
        timeout: Option<Duration>,
    ) -> Result<(), Failed> {
        let running = self.begin(path, None);
        let (ending, received) = mpsc::channel();
        let starter = SyncStart { running: Arc::clone(&running), ending };
        thread::Builder::new().name(running.path.clone()).spawn(move || start(starter)).map_err(|error| {
            self.end(&running);
            format!("the test's thread can't be started: {error}")
        })?;
        match receive(&received, timeout) {
            Ok(ending) => {
                self.end(&running);
                ending.judge(test.should_panic)
            }
            Err(Silence::Timeout(timeout)) => {
                // Its thread cannot be ended, and goes on.
                self.expect_answer(timeout);
                Err(out_of_time(timeout))
            }
            Err(Silence::Dropped) => {
                self.end(&running);
                Err(DROPPED.into())
            }
        }
    }

    /// Waits for word from an async test, as long as its runtime has a thread for it.
    fn receive_from(
        &self,
        running: &Running,
        received: &Receiver<Event>,
        timeout: Option<Duration>,
    ) -> Result<Result<Event, Silence>, Failed> {
        let mut left = timeout;
        let mut known = 0;
        loop {
            let look = left.map_or(LOOK, |left| left.min(LOOK));
            match receive(received, Some(look)) {
                Err(Silence::Timeout(_)) => {}
                heard => return Ok(heard),
            }
            let keep_their_thread = self.keep_their_thread.load(Ordering::Relaxed);
            if keep_their_thread > known && !running.is_answered(PATIENCE) {
                let suspects = self.suspects();
                return Err(format!("its runtime has no free thread: {suspects} keeps one and is out of time").into());
            }
            known = keep_their_thread;
            left = left.map(|left| left - look);
            if let (Some(Duration::ZERO), Some(timeout)) = (left, timeout) {
                return Ok(Err(Silence::Timeout(timeout)));
            }
        }
    }

    fn begin(&self, path: String, mark: Option<Mark>) -> Arc<Running> {
        let running = Running::new(path, mark);
        self.lock().push(Arc::clone(&running));
        running
    }

    fn end(&self, running: &Arc<Running>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, running));
    }

    /// The tests that have begun and not ended.
    pub(crate) fn running(&self) -> Vec<Arc<Running>> {
        self.lock().clone()
    }

    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        // A list is as good as it was when somebody panicked elsewhere.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const DROPPED: &str = "the test's runtime dropped it before it had ended: was the runtime shut down?";

/// Why nothing was received.
enum Silence {
    /// This is how long it was waited for.
    Timeout(Duration),
    /// There is nobody left to send anything.
    Dropped,
}

fn receive<T>(received: &Receiver<T>, timeout: Option<Duration>) -> Result<T, Silence> {
    match timeout {
        None => received.recv().map_err(|_| Silence::Dropped),
        Some(timeout) => received.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => Silence::Timeout(timeout),
            RecvTimeoutError::Disconnected => Silence::Dropped,
        }),
    }
}

fn out_of_time(timeout: Duration) -> Failed {
    format!("timed out after {timeout:?}").into()
}

fn name_left_behind(path: &str, cleaned_up: PyResult<()>, left: &[String]) {
    if let Err(error) = cleaned_up {
        eprintln!("test {path}: what it has left behind can't be cancelled: {error}");
    }
    if !left.is_empty() {
        eprintln!("test {path} left Python tasks behind, now cancelled:\n  {}", left.join("\n  "));
    }
}
