//! What cannot be skipped: a test that keeps the event loop's thread, or the GIL, to itself.

use std::{
    process,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use pyo3::prelude::*;

use crate::{harness::Harness, timeout};

/// How long to wait for the GIL, to see what has the event loop's thread.
const LOOK: Duration = Duration::from_secs(5);

impl Harness {
    /// Returns when the event loop answers.
    ///
    /// If it does not, in what is left of a test's patience after its timeout, the process ends with the exit code of
    /// failed tests, and the test that is in the way is named.
    pub(crate) fn expect_answer(&self, timeout: Duration) {
        let grace = timeout::grace(timeout);
        let (sender, answer) = mpsc::channel();
        let tasks = Arc::clone(self.tasks());
        // To attach to Python may take for ever.
        thread::spawn(move || Python::attach(|py| tasks.call_back(py, sender)));
        // When the sender is dropped the loop is closed, and the run is over anyway.
        if answer.recv_timeout(grace) == Err(RecvTimeoutError::Timeout) {
            self.give_up(grace);
        }
    }

    fn give_up(&self, grace: Duration) -> ! {
        // Several tests may run out of time together.
        static FIRST: Mutex<()> = Mutex::new(());
        let _first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        let (blocker, stack) = self.blocker();
        eprintln!(
            "\n{blocker} blocks the event loop's thread or holds the GIL: the loop has not answered for {grace:?}, \
             so that no test can go on\n{stack}"
        );
        process::exit(FAILED.into());
    }

    /// Which test it is, and what the event loop's thread does, as far as can be seen.
    fn blocker(&self) -> (String, String) {
        let (sender, seen) = mpsc::channel();
        let tasks = Arc::clone(self.tasks());
        let running = self.running();
        thread::spawn(move || {
            Python::attach(|py| {
                let (current, stack) = tasks.current(py)?;
                let owner = running.iter().find(|running| running.mark.as_ref().is_some_and(|mark| mark.is(&current)));
                let _ = sender.send((owner.map(|running| running.path.clone()), stack));
                PyResult::Ok(())
            })
        });
        match seen.recv_timeout(LOOK) {
            Ok((Some(path), stack)) => (format!("test {path}"), stack),
            Ok((None, stack)) => (self.suspects(), stack),
            Err(_) => (self.suspects(), String::new()),
        }
    }

    /// The tests that have a thread, else all that are running.
    pub(crate) fn suspects(&self) -> String {
        let running = self.running();
        let busy: Vec<_> = running.iter().filter(|running| running.is_busy()).collect();
        let suspects = if busy.is_empty() { running.iter().collect() } else { busy };
        let paths: Vec<_> = suspects.iter().map(|running| running.path.as_str()).collect();
        match paths[..] {
            [path] => format!("test {path}"),
            _ => format!("one of the tests {}", paths.join(", ")),
        }
    }
}

/// libtest's exit code when a test has failed.
pub(crate) const FAILED: u8 = 101;
