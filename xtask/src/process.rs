//! Runs children: each with a time limit, each ended with all that it started when it is over or Ctrl-C comes.

mod group;
mod watch;

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fmt, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use watch::{Event, Watch};
use xshell::Cmd;

use crate::{
    error::{Result, Stop},
    report,
};

/// Whether a variable would make of a child something else than what is to be tried.
///
/// A foreign `PYTHONHOME` ends an embedded interpreter at its start, `PYTHONUNBUFFERED` hides output that is lost at
/// exit, `PYTHONOPTIMIZE` takes the assertions out, and `PYO3_CONFIG_FILE` has PyO3 built for another Python.
/// `PYTEST_ADDOPTS` may narrow a run, with `PIP_TARGET` pip installs elsewhere than in the venv, and with
/// `CARGO_BUILD_TARGET` cargo builds for another system, in another folder.
/// maturin refuses to choose between a venv and a conda environment.
fn is_removed(name: &OsStr) -> bool {
    const NAMES: [&[u8]; 5] = [b"CARGO_BUILD_TARGET", b"CONDA_PREFIX", b"PIP_PREFIX", b"PIP_TARGET", b"PIP_USER"];
    let name = name.as_encoded_bytes();
    let of_pyo3 = name.starts_with(b"PYO3_") && !name.starts_with(b"PYO3_AWAIT_");
    of_pyo3 || name.starts_with(b"PYTHON") || name.starts_with(b"PYTEST_") || NAMES.contains(&name)
}

/// Removes what is inherited, but not what this program has set for `command`.
fn clean(command: &mut Command, inherited: impl Iterator<Item = OsString>) {
    for name in inherited.filter(|name| is_removed(name)) {
        if !command.get_envs().any(|(set, _)| set == name) {
            command.env_remove(name);
        }
    }
}

/// Runs children. Its clones share what a signal does, and may run children at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    timeout: Duration,
    /// How long a child that was asked to end may take before it is killed.
    grace: Duration,
    interrupt: Arc<Mutex<Interrupt>>,
}

/// Where a signal goes.
#[derive(Debug, Default)]
struct Interrupt {
    /// The children that run, by the order of their start.
    running: BTreeMap<u64, Sender<Event>>,
    /// How many children have been started.
    started: u64,
    /// The signal that came while a child ran. It stays: no further child is started.
    signal: Option<i32>,
}

/// What becomes of a child's standard output. Its standard error goes where ours goes, unless that is kept too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// It goes where ours goes.
    Inherit,
    /// It is shown as it comes, and kept.
    Tee,
    /// It is kept.
    Capture,
    /// It is kept, and the standard error with it.
    CaptureBoth,
}

/// How a child ended, and what it printed, if that was kept.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ending: Ending,
    pub(crate) output: String,
}

#[derive(Debug)]
pub(crate) enum Ending {
    /// It could not be started, or not be waited for.
    Error(io::Error),
    Status(ExitStatus),
    /// It succeeded, but what it had started ran on, and was killed.
    Left,
    TimedOut(Duration),
}

impl Runner {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, grace: Duration::from_secs(5), interrupt: Arc::default() }
    }

    /// This runner with another time limit.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// From now on Ctrl-C, `SIGTERM` and `SIGHUP` end the child that runs, and with it the command.
    ///
    /// Children are not in the terminal's foreground group, so the terminal's Ctrl-C does not reach them by itself.
    pub(crate) fn handle_signals(&self) -> Result<()> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
            .map_err(|error| Stop::Failed(format!("cannot handle signals: {error}")))?;
        let interrupt = Arc::clone(&self.interrupt);
        thread::spawn(move || {
            for signal in signals.forever() {
                if !deliver(&interrupt, signal) {
                    report::progress("interrupted");
                    std::process::exit(i32::from(Stop::Signal(signal).exit_code()));
                }
            }
        });
        Ok(())
    }

    /// Runs `command` to its end, in a process group of its own and with no standard input.
    ///
    /// # Errors
    ///
    /// Only a signal that ends the whole command: that a child fails, or cannot be started, is for the caller to judge.
    pub(crate) fn run(&self, command: Cmd<'_>, output: Output) -> Result<Finished> {
        let (sender, events) = mpsc::channel();
        let number = lock(&self.interrupt).start(sender.clone())?;
        if matches!(output, Output::Inherit | Output::Tee) {
            report::progress(&format!("$ {command}"));
        }
        let mut command = Command::from(command);
        clean(&mut command, env::vars_os().map(|(name, _)| name));
        command.stdin(Stdio::null()).process_group(0);
        if output != Output::Inherit {
            command.stdout(Stdio::piped());
        }
        if output == Output::CaptureBoth {
            command.stderr(Stdio::piped());
        }

        let finished = match command.spawn() {
            Ok(child) => Watch::new(self, child, sender, output).follow(&events),
            Err(error) => Finished { ending: Ending::Error(error), output: String::new() },
        };
        let mut interrupt = lock(&self.interrupt);
        interrupt.running.remove(&number);
        interrupt.signal.map_or(Ok(finished), |signal| Err(Stop::Signal(signal)))
    }
}

impl Interrupt {
    /// Notes a child that is about to run, and gives its number; after a signal none is to run.
    fn start(&mut self, events: Sender<Event>) -> Result<u64> {
        if let Some(signal) = self.signal {
            return Err(Stop::Signal(signal));
        }
        self.started += 1;
        self.running.insert(self.started, events);
        Ok(self.started)
    }
}

impl Finished {
    pub(crate) fn success(&self) -> bool {
        matches!(self.ending, Ending::Status(status) if status.success())
    }

    pub(crate) fn exit_code(&self) -> Option<i32> {
        match self.ending {
            Ending::Status(status) => status.code(),
            Ending::Error(_) | Ending::Left | Ending::TimedOut(_) => None,
        }
    }

    /// The output of a child that must succeed; `operation` is what it did, for the error.
    pub(crate) fn expect(self, operation: &str) -> Result<String> {
        if self.success() { Ok(self.output) } else { Err(Stop::Failed(format!("{operation}: {}", self.ending))) }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => write!(f, "cannot be run: {error}"),
            Self::Status(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit code {code}"),
                (None, Some(signal)) => write!(f, "ended by signal {signal}"),
                (None, None) => write!(f, "{status}"),
            },
            Self::Left => f.write_str("left processes behind, which were killed"),
            Self::TimedOut(limit) => write!(f, "killed after {} s, its time limit", limit.as_secs_f64()),
        }
    }
}

/// Tells what runs about a signal. Whether anything runs.
fn deliver(interrupt: &Mutex<Interrupt>, signal: i32) -> bool {
    let mut interrupt = lock(interrupt);
    if interrupt.running.is_empty() {
        return false;
    }
    for running in interrupt.running.values() {
        // The child may have ended this instant; then `run` finds the signal as it returns.
        drop(running.send(Event::Signal(signal)));
    }
    interrupt.signal = Some(signal);
    true
}

fn lock(interrupt: &Mutex<Interrupt>) -> MutexGuard<'_, Interrupt> {
    interrupt.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
