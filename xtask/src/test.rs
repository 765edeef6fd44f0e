//! `cargo xtask test`: every test there is, whatever came of those before.

use std::{ffi::OsString, path::Path};

use clap::{Args, ValueEnum};
use xshell::{Cmd, cmd};

use crate::{
    counts::Counts,
    error::Result,
    process::{Ending, Finished, Output, Runner},
    python::{self, Python},
    report::{self, Outcome, Report},
    venv::{self, Venv},
    workspace::Workspace,
};

/// pytest's exit code when it has found no test.
const NO_TESTS_COLLECTED: i32 = 5;

/// Which tests.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Integration tests on this event loop only.
    #[arg(long, value_enum)]
    event_loop: Option<EventLoop>,

    /// Integration tests on this Rust runtime only, such as tokio.
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,

    /// The Python-driven tests only, with their extension module built for the stable ABI.
    #[arg(long)]
    abi3: bool,

    /// Once with each Python that can be found and will do: those on PATH by names such as python3.12, and pyenv's.
    #[arg(long)]
    each_python: bool,

    /// Tests with this in their name only.
    filter: Option<String>,

    /// What the Rust test programs are given, such as --nocapture.
    #[arg(last = true)]
    extra: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EventLoop {
    Asyncio,
    Uvloop,
}

/// Runs the tests, and says whether all passed.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: Python, options: &Options) -> Result<bool> {
    let mut report = Report::default();
    if options.each_python {
        for python in python::find_all(runner, python)? {
            report::progress(&format!("\npython: {} at {}", python.version, python.executable.display()));
            test(workspace, runner, &python, options, &format!("{} ", python.tag), &mut report)?;
        }
    } else {
        test(workspace, runner, &python, options, "", &mut report)?;
    }
    if report.counts().total() == 0 {
        report.step("all tests", || Ok(Outcome::of(vec!["no test has that in its name".to_owned()])))?;
    }
    Ok(report.close())
}

/// Runs the tests with one Python; what `report` calls them begins with `prefix`.
fn test(
    workspace: &Workspace,
    runner: &Runner,
    python: &Python,
    options: &Options,
    prefix: &str,
    report: &mut Report,
) -> Result<()> {
    let venv = venv::ensure(workspace, runner, python, Venv::Tests)?;
    let shell = workspace.shell_in(python, &venv)?;
    let filtered = options.filter.is_some() || !options.extra.is_empty();
    let libtest = |command: Cmd<'_>| -> Result<Outcome> {
        let finished = runner.run(command.args(options.of_libtest()), Output::Tee)?;
        Ok(judge(&finished, Counts::of_libtest(&finished.output), filtered))
    };

    if options.abi3 {
        return report.step(&format!("{prefix}python tests, stable ABI"), || {
            python_tests(workspace, runner, python, &venv, options)
        });
    }
    report.step(&format!("{prefix}unit tests"), || {
        libtest(cmd!(shell, "cargo test --workspace --exclude pyo3-await-pytests --no-fail-fast --tests"))
    })?;
    report.step(&format!("{prefix}doc tests"), || {
        libtest(cmd!(shell, "cargo test --workspace --exclude pyo3-await-pytests --no-fail-fast --doc"))
    })?;
    report.step(&format!("{prefix}rust integration tests"), || {
        let only = options.integration_tests().map(|pattern| ["--test".to_owned(), pattern]);
        let only = only.iter().flatten();
        libtest(cmd!(shell, "cargo test --package pyo3-await-pytests --no-fail-fast {only...}"))
    })?;
    report.step(&format!("{prefix}python tests"), || python_tests(workspace, runner, python, &venv, options))
}

/// Builds the extension module into the venv, and runs what Python drives.
fn python_tests(
    workspace: &Workspace,
    runner: &Runner,
    python: &Python,
    venv: &Path,
    options: &Options,
) -> Result<Outcome> {
    let manifest = "pytests/extension/Cargo.toml";
    let shell = workspace.shell_for_maturin(python, venv)?;
    let features = if options.abi3 { &["--features", "pyo3/abi3-py310"][..] } else { &[] };
    let built = runner.run(cmd!(shell, "maturin develop --manifest-path {manifest} {features...}"), Output::Inherit)?;
    if !built.success() {
        return Ok(Outcome::of(vec![format!("building the extension module: {}", built.ending)]));
    }
    let shell = workspace.shell_in(python, venv)?;
    // What is imported says itself what it was built for: there may be another, which comes before it.
    let expected = if options.abi3 { "True" } else { "False" };
    let imported = runner.run(cmd!(shell, "python -c 'import bridge; print(bridge.STABLE_ABI)'"), Output::Capture)?;
    if imported.output.trim() != expected {
        let answer = imported.output.trim();
        return Ok(Outcome::of(vec![format!("the extension module's STABLE_ABI is {answer}, not {expected}")]));
    }
    let filter = options.filter.iter().flat_map(|filter| ["-k", filter]);
    let event_loop = options.event_loop.iter().flat_map(|event_loop| ["--event-loop", event_loop.name()]);
    let finished =
        runner.run(cmd!(shell, "python -m pytest pytests/python {event_loop...} {filter...}"), Output::Tee)?;
    Ok(judge(&finished, Counts::of_pytest(&finished.output), options.filter.is_some()))
}

/// What came of a step that ended as `finished` and reported `counts`; a filter may leave it without any test.
pub(crate) fn judge(finished: &Finished, mut counts: Counts, filtered: bool) -> Outcome {
    let mut complaints = Vec::new();
    let empty = counts.total() == 0;
    let nothing_to_run = empty && filtered && finished.exit_code() == Some(NO_TESTS_COLLECTED);
    if !finished.success() && !nothing_to_run {
        // The step has shown the tests that failed; what it could not count is what is worth saying.
        if counts.failed == 0 || !matches!(finished.ending, Ending::Status(_)) {
            complaints.push(finished.ending.to_string());
        }
        counts.failed = counts.failed.max(1);
    } else if empty && !filtered {
        complaints.push("ran no test".to_owned());
        counts.failed = 1;
    }
    Outcome { counts, complaints }
}

impl Options {
    /// What `cargo test` passes on to the test programs.
    fn of_libtest(&self) -> impl Iterator<Item = OsString> {
        let dashes = (!self.extra.is_empty()).then(|| OsString::from("--"));
        self.filter.iter().map(OsString::from).chain(dashes).chain(self.extra.iter().cloned())
    }

    /// A pattern for the names of the integration tests, if some are to be left out.
    ///
    /// They are called `test_<runtime>_<event loop>`, or with more in between: `test_tokio_current_thread_uvloop`.
    fn integration_tests(&self) -> Option<String> {
        let runtime = self.runtime.as_ref().map(|runtime| runtime.replace('-', "_"));
        match (runtime, self.event_loop.map(EventLoop::name)) {
            (None, None) => None,
            (None, Some(event_loop)) => Some(format!("test_*_{event_loop}")),
            (Some(runtime), None) => Some(format!("test_{runtime}_*")),
            (Some(runtime), Some(event_loop)) => Some(format!("test_{runtime}*_{event_loop}")),
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

#[cfg(test)]
mod tests {
    use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        Line::parse_from([&["test"], line].concat()).options
    }

    fn exited(code: i32) -> Finished {
        Finished { ending: Ending::Status(ExitStatus::from_raw(code << 8)), output: String::new() }
    }

    fn counts(passed: usize, failed: usize) -> Counts {
        Counts { passed, failed, ignored: 0 }
    }

    #[test]
    fn a_runtime_and_an_event_loop_narrow_by_name() {
        for (line, pattern) in [
            (&[][..], None),
            (&["--event-loop", "uvloop"], Some("test_*_uvloop")),
            (&["--runtime", "tokio"], Some("test_tokio_*")),
            (&["--runtime", "async-std", "--event-loop", "asyncio"], Some("test_async_std*_asyncio")),
        ] {
            assert_eq!(options(line).integration_tests().as_deref(), pattern);
        }
        assert!(Line::try_parse_from(["test", "--event-loop", "trio"]).is_err());
    }

    #[test]
    fn what_follows_two_dashes_is_not_the_filter() {
        let Options { filter, extra, .. } = options(&["--", "--nocapture"]);
        assert_eq!((filter, extra), (None, vec!["--nocapture".into()]));
        let Options { filter, extra, .. } = options(&["cancel", "--", "--test-threads", "1"]);
        assert_eq!((filter.as_deref(), extra.len()), (Some("cancel"), 2));
        let passed_on = |line| options(line).of_libtest().collect::<Vec<_>>();
        assert_eq!(passed_on(&["cancel"]), ["cancel"]);
        assert_eq!(passed_on(&["cancel", "--", "--nocapture"]), ["cancel", "--", "--nocapture"]);
        assert!(passed_on(&[]).is_empty());
    }

    #[test]
    fn counted_failures_speak_for_themselves() {
        assert_eq!(judge(&exited(0), counts(3, 0), false), Outcome { counts: counts(3, 0), complaints: vec![] });
        assert_eq!(judge(&exited(101), counts(3, 2), false), Outcome { counts: counts(3, 2), complaints: vec![] });
    }

    #[test]
    fn a_failure_that_is_not_counted_is_one_and_named() {
        let outcome = judge(&exited(101), counts(3, 0), false);
        assert_eq!(outcome, Outcome { counts: counts(3, 1), complaints: vec!["exit code 101".to_owned()] });
        // A filter is no excuse.
        let outcome = judge(&exited(101), counts(0, 0), true);
        assert_eq!(outcome, Outcome { counts: counts(0, 1), complaints: vec!["exit code 101".to_owned()] });
    }

    #[test]
    fn a_time_limit_is_named_beside_the_failures() {
        let ending = Ending::TimedOut(Duration::from_secs(1800));
        let outcome = judge(&Finished { ending, output: String::new() }, counts(3, 2), false);
        assert_eq!(outcome.counts, counts(3, 2));
        assert_eq!(outcome.complaints, ["killed after 1800 s, its time limit"]);
        let ending = Ending::Error(io::Error::from(io::ErrorKind::NotFound));
        let outcome = judge(&Finished { ending, output: String::new() }, counts(0, 0), false);
        assert_eq!((outcome.counts, outcome.complaints.len()), (counts(0, 1), 1));
    }

    #[test]
    fn no_test_at_all_is_a_failure_unless_there_is_a_filter() {
        for code in [0, NO_TESTS_COLLECTED] {
            assert_eq!(judge(&exited(code), counts(0, 0), false).counts, counts(0, 1), "{code}");
            assert_eq!(judge(&exited(code), counts(0, 0), true), Outcome::default(), "{code}");
        }
    }
}
