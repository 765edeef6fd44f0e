//! `cargo xtask test`: every test there is, whatever came of those before.

use std::{env, ffi::OsString, path::Path};

use clap::{Args, ValueEnum};
use xshell::{Cmd, cmd};

use crate::{
    counts::Counts,
    error::{Result, Stop},
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
    /// Integration tests on this event loop only: Rust's that have it in their program's name, and Python's.
    ///
    /// That leaves out the guide's doc tests, and programs that are about something else, such as test_embedded.
    #[arg(long, value_enum)]
    event_loop: Option<EventLoop>,

    /// Rust integration tests on this Rust runtime only, such as tokio: those of the programs test_tokio_*.
    ///
    /// That leaves out the guide's doc tests. Python's are on tokio, and all run.
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,

    /// The Python-driven tests only, with their extension module built for the stable ABI.
    #[arg(long, conflicts_with_all = ["runtime", "extra"])]
    abi3: bool,

    /// Once with each Python that can be found and will do: those on PATH by names such as python3.12, and pyenv's.
    ///
    /// Those that will not do are named in the summary.
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

/// How long a test may take that says nothing of it, unless the user does.
const TEST_TIMEOUT: (&str, &str) = ("PYO3_AWAIT_TEST_TIMEOUT", "2m");

/// Runs the tests, and says whether all passed.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: Python, options: &Options) -> Result<bool> {
    report::gather(|report| {
        if options.each_python {
            let (found, passed_over) = python::find_all(runner, python)?;
            for python in &found {
                report::progress(&format!("\npython: {} at {}", python.version, python.executable.display()));
                match test(workspace, runner, python, options, &format!("{} ", python.tag), report) {
                    // That one of them is not ready says nothing of the others.
                    Err(Stop::Failed(reason)) => report.fail(&format!("{} all tests", python.tag), reason),
                    ended => ended?,
                }
            }
            if let ([_], []) = (&*found, &*passed_over) {
                report.skip("every other Python: none was found".to_owned());
            }
            passed_over.into_iter().for_each(|reason| report.skip(reason));
        } else {
            test(workspace, runner, &python, options, "", report)?;
        }
        if report.counts().total() == 0 {
            report.fail("all tests", "no test has that in its name".to_owned());
        }
        Ok(())
    })
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
    if env::var_os(TEST_TIMEOUT.0).is_none() {
        shell.set_var(TEST_TIMEOUT.0, TEST_TIMEOUT.1);
    }
    let libtest = |command: Cmd<'_>, without: &[&str]| -> Result<Outcome> {
        Ok(judge_libtest(&runner.run(command.args(options.of_libtest(without)), Output::Tee)?))
    };

    if options.abi3 {
        return report.step(&format!("{prefix}python tests, stable ABI"), || {
            python_tests(workspace, runner, python, &venv, options)
        });
    }
    // What is not there is not asked for: the tests need Rust and a Python.
    let nextest = runner.run(cmd!(shell, "cargo nextest --version"), Output::CaptureBoth)?.success();
    let without = if nextest { &[][..] } else { &["under_nextest"] };
    if !nextest {
        report.skip("the test under_nextest: `cargo install cargo-nextest --locked` installs what it needs".to_owned());
    }
    report.step(&format!("{prefix}unit tests"), || {
        let tests = cmd!(shell, "cargo test --workspace --exclude pyo3-await-pytests --no-fail-fast --tests");
        libtest(tests, without)
    })?;
    report.step(&format!("{prefix}doc tests"), || {
        libtest(cmd!(shell, "cargo test --workspace --exclude pyo3-await-pytests --no-fail-fast --doc"), &[])
    })?;
    report.step(&format!("{prefix}rust integration tests"), || {
        let only = options.integration_tests().map(|pattern| ["--test".to_owned(), pattern]);
        let only = only.iter().flatten();
        libtest(cmd!(shell, "cargo test --package pyo3-await-pytests --no-fail-fast {only...}"), &[])
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

/// What came of a step whose tests are libtest's, or those of our own harness.
pub(crate) fn judge_libtest(finished: &Finished) -> Outcome {
    let output = &finished.output;
    let mut outcome = judge(finished, Counts::of_libtest(output), Counts::filtered_out(output) > 0);
    let unfinished = Counts::unfinished(output);
    if unfinished > 0 {
        // A test may end its program with success.
        outcome.counts.failed = outcome.counts.failed.max(1);
        outcome.complaints.push(format!("test programs that ended before all their tests had: {unfinished}"));
    }
    outcome
}

/// What came of a step that ended as `finished` and reported `counts`; a filter may leave it without any test.
fn judge(finished: &Finished, mut counts: Counts, filtered: bool) -> Outcome {
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
    /// What `cargo test` passes on to the test programs, which are to leave out the tests `without`.
    fn of_libtest(&self, without: &[&str]) -> impl Iterator<Item = OsString> {
        let skips = without.iter().flat_map(|name| ["--skip".into(), name.into()]);
        let options: Vec<OsString> = skips.chain(self.extra.iter().cloned()).collect();
        let dashes = (!options.is_empty()).then(|| OsString::from("--"));
        self.filter.iter().map(OsString::from).chain(dashes).chain(options)
    }

    /// A pattern for the names of the integration tests, if some are to be left out.
    ///
    /// They are called `test_<runtime>_<event loop>`, or with more in between: `test_tokio_current_thread_uvloop`.
    /// Those that choose their event loops themselves have another word in its place: `test_tokio_chapter`.
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
    fn what_the_python_driven_tests_do_not_know_is_refused_with_them() {
        for line in [&["test", "--abi3", "--runtime", "smol"][..], &["test", "--abi3", "--", "--nocapture"]] {
            assert!(Line::try_parse_from(line).is_err(), "{line:?}");
        }
        assert!(options(&["--abi3", "--event-loop", "uvloop", "cancel"]).abi3);
    }

    #[test]
    fn what_follows_two_dashes_is_not_the_filter() {
        let Options { filter, extra, .. } = options(&["--", "--nocapture"]);
        assert_eq!((filter, extra), (None, vec!["--nocapture".into()]));
        let Options { filter, extra, .. } = options(&["cancel", "--", "--test-threads", "1"]);
        assert_eq!((filter.as_deref(), extra.len()), (Some("cancel"), 2));
        let passed_on = |line| options(line).of_libtest(&[]).collect::<Vec<_>>();
        assert_eq!(passed_on(&["cancel"]), ["cancel"]);
        assert_eq!(passed_on(&["cancel", "--", "--nocapture"]), ["cancel", "--", "--nocapture"]);
        assert!(passed_on(&[]).is_empty());
        let without: Vec<_> = options(&["cancel", "--", "--nocapture"]).of_libtest(&["one"]).collect();
        assert_eq!(without, ["cancel", "--", "--skip", "one", "--nocapture"]);
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
    fn a_program_that_ends_before_its_tests_is_a_failure_and_named() {
        let cut = Finished { output: "running 3 tests\ntest one ... ok\n".to_owned(), ..exited(0) };
        let complaint = "test programs that ended before all their tests had: 1";
        let closed = "running 1 test\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let after = Finished { output: format!("{closed}{}", cut.output), ..exited(0) };
        assert_eq!(judge_libtest(&after), Outcome { counts: counts(1, 1), complaints: vec![complaint.to_owned()] });
        assert!(judge_libtest(&cut).complaints.contains(&complaint.to_owned()));
        let whole = Finished { output: closed.to_owned(), ..exited(0) };
        assert_eq!(judge_libtest(&whole), Outcome { counts: counts(1, 0), complaints: vec![] });
    }

    #[test]
    fn what_was_left_out_excuses_a_step_without_tests() {
        let of = |filtered_out| {
            let line =
                format!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {filtered_out} filtered out\n");
            judge_libtest(&Finished { output: line, ..exited(0) })
        };
        assert_eq!(of(3), Outcome::default());
        assert_eq!(of(0).complaints, ["ran no test"]);
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
