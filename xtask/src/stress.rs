//! `cargo xtask stress`: many short processes, to see what happens once in a thousand.

mod processes;
mod sanitize;
mod table;

use clap::{Args, Subcommand, ValueEnum, builder::RangedU64ValueParser, value_parser};

use crate::{error::Result, process::Runner, python::Python, report, workspace::Workspace};

/// What is tried.
#[derive(Debug, Subcommand)]
pub(crate) enum Stress {
    /// Processes that end while futures are under way.
    Exit(Options),
    /// Rust programs with an interpreter in them, that end while futures are under way. They have no control.
    Embedded(Options),
    /// Processes that fork.
    Fork(Options),
    /// Processes that run many event loops: figures of descriptors and memory.
    Loops(Options),
    /// The Rust tests under AddressSanitizer. Needs a nightly toolchain.
    Asan(sanitize::Options),
    /// The Rust tests under ThreadSanitizer.
    ///
    /// Needs a nightly toolchain with the sources of the standard library, which is built with it.
    Tsan(sanitize::Options),
}

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many processes of each situation [default: 1000 of exit and embedded, 200 of fork, 1 of
    /// loops].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: Option<usize>,

    /// The same for the control, `pyo3-async-runtimes`; 0 leaves it out [default: a tenth of the runs].
    #[arg(long)]
    peer_runs: Option<usize>,

    /// This situation only; it may be given several times.
    #[arg(long, value_name = "NAME")]
    situation: Vec<String>,

    /// The Rust runtime. The control is always on tokio.
    #[arg(long, value_enum, default_value_t = Runtime::Tokio)]
    runtime: Runtime,

    /// The Python event loop.
    #[arg(long, value_enum, default_value_t = EventLoop::Asyncio)]
    event_loop: EventLoop,

    /// How many processes run at the same time.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    jobs: usize,

    /// Fork the processes from one that has imported asyncio, in a fraction of the time that starting them takes.
    ///
    /// The extension module is imported by each. Everything else is as in a process that was started, but that it was
    /// not.
    #[arg(long)]
    forked: bool,

    /// How many seconds a process may take before it counts as hanging.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Tokio,
    AsyncStd,
    Smol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventLoop {
    Asyncio,
    Uvloop,
}

impl Runtime {
    fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::AsyncStd => "async-std",
            Self::Smol => "smol",
        }
    }
}

impl EventLoop {
    fn name(self) -> &'static str {
        match self {
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
        }
    }
}

/// Which programs, and how many of each when nothing is said.
struct Kind {
    name: &'static str,
    program: Program,
    runs: usize,
    /// Seconds, far above what a run takes on a busy machine.
    limit: u64,
}

/// What is run. Without an argument it lists its situations.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// A Python program, which is told which extension module to use.
    Script(&'static str),
    /// A Rust program of the tests' package, on tokio and asyncio.
    Binary(&'static str),
}

const EXIT: Kind = Kind { name: "exit", program: Program::Script("pytests/stress/exit.py"), runs: 1000, limit: 30 };
const EMBEDDED: Kind = Kind { name: "embedded", program: Program::Binary("embedded"), runs: 1000, limit: 30 };
const FORK: Kind = Kind { name: "fork", program: Program::Script("pytests/stress/fork.py"), runs: 200, limit: 60 };
const LOOPS: Kind = Kind { name: "loops", program: Program::Script("pytests/stress/loops.py"), runs: 1, limit: 600 };

/// Runs what is asked for, and says whether all was well.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: &Python, stress: &Stress) -> Result<bool> {
    let (kind, options) = match stress {
        Stress::Exit(options) => (EXIT, options),
        Stress::Embedded(options) => (EMBEDDED, options),
        Stress::Fork(options) => (FORK, options),
        Stress::Loops(options) => (LOOPS, options),
        Stress::Asan(options) => {
            return sanitize::run(workspace, runner, python, sanitize::Sanitizer::Address, options);
        }
        Stress::Tsan(options) => return sanitize::run(workspace, runner, python, sanitize::Sanitizer::Thread, options),
    };
    let rows = processes::run(workspace, runner, python, &kind, options)?;
    let (runtime, event_loop) = (options.runtime.name(), options.event_loop.name());
    let forked = if options.forked { ", forked processes" } else { "" };
    let title = format!("{}, Python {}, {runtime}, {event_loop}{forked}", kind.name, python.version);
    report::print(&table::of(&title, &rows));
    Ok(rows.iter().all(|row| row.ours.failures() == 0) && !rows.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn nothing_at_all_is_refused() {
        for option in ["--runs", "--jobs", "--limit"] {
            assert!(Line::try_parse_from(["stress", option, "1"]).is_ok(), "{option}");
            assert!(Line::try_parse_from(["stress", option, "0"]).is_err(), "{option}");
        }
        // The control may be left out.
        assert_eq!(Line::parse_from(["stress", "--peer-runs", "0"]).options.peer_runs, Some(0));
    }
}
