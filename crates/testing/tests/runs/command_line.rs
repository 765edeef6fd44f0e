//! The command line, on whatever tests there are.

use std::sync::LazyLock;

use tokio::sync::Barrier;

use crate::{
    run_tests,
    support::{Case, run, subject},
};

pub(crate) const CASES: &[Case] = cases![
    tests_are_listed_without_python,
    the_command_line_is_refused_without_python,
    tests_are_filtered,
    ignored_tests_run_when_they_are_asked_for,
    as_many_tests_run_at_once_as_there_are_threads,
    no_threads_are_refused,
];

/// Python can't start in a home that is not one.
const NO_HOME: (&str, &str) = ("PYTHONHOME", "/nowhere");

/// Where two tests have to be at the same time.
static BARRIER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

#[pyo3_await_tokio::test]
async fn meets_one() {
    BARRIER.wait().await;
}

#[pyo3_await_tokio::test]
async fn meets_another() {
    BARRIER.wait().await;
}

fn tests_are_listed_without_python() {
    let list = |arguments: &[&str]| run(subject("harness").env(NO_HOME.0, NO_HOME.1).args(arguments));
    let all = list(&["--list"]);
    all.exits_with(0).expect("nothing else is written", all.stderr.is_empty());
    let lines: Vec<_> = all.stdout.lines().collect();
    all.expect("the list is sorted", lines.is_sorted());
    all.prints("outcomes::passes: test\n").prints("stuck::behind: test\n").prints("outcomes::is_ignored: test\n");

    let some = list(&["--list", "--format", "terse", "outcomes::passes"]);
    some.exits_with(0).expect(
        "the list is filtered",
        some.stdout == "outcomes::passes: test\noutcomes::passes_in_a_thread: test\noutcomes::passes_in_python: test\n",
    );
    let ignored = list(&["--list", "--format", "terse", "--ignored"]);
    ignored.exits_with(0).expect(
        "only ignored tests are listed",
        ignored.stdout == "outcomes::is_ignored: test\noutcomes::is_ignored_for_no_reason: test\n",
    );

    let started = list(&["outcomes::passes"]);
    started.expect("a run does start Python, which fails", started.code() != Some(0) && started.stdout.is_empty());
}

fn the_command_line_is_refused_without_python() {
    // It takes one filter.
    for refused in ["--no-such-option", "--no-capture", "another_filter"] {
        let run = run(subject("harness").env(NO_HOME.0, NO_HOME.1).args(["filter", refused]));
        run.exits_with(2).complains(refused);
        run.expect("Python has no part in it", !run.stderr.contains("PYTHONHOME"));
    }
}

fn tests_are_filtered() {
    let passed = |arguments: &[&str], count: usize| {
        run_tests(arguments).exits_with(0).prints(&format!("test result: ok. {count} passed; 0 failed;"));
    };
    passed(&["outcomes::passes"], 3);
    passed(&["outcomes::passes", "--exact"], 1);
    passed(&["outcomes::passes", "--skip", "python"], 2);
    passed(&["outcomes::passes", "--nocapture", "--color", "never", "--quiet"], 3);
    passed(&["no_such_test"], 0);
}

fn ignored_tests_run_when_they_are_asked_for() {
    let ignored = run_tests(&["is_ignored", "--ignored"]);
    ignored.exits_with(0).prints("2 passed; 0 failed; 0 ignored;");
    let included = run_tests(&["outcomes::", "--include-ignored", "--skip", "hangs"]);
    included.exits_with(101).prints("6 passed; 2 failed; 0 ignored;");
}

fn as_many_tests_run_at_once_as_there_are_threads() {
    let meet = |asked: &[&str], environment: &str, timeout: &str| {
        let mut subject = subject("harness");
        subject.env("PYO3_AWAIT_TEST_TIMEOUT", timeout).env("RUST_TEST_THREADS", environment);
        run(subject.arg("command_line::meets").args(asked))
    };
    meet(&[], "2", "30s").exits_with(0).prints("2 passed;");
    meet(&[], "1", "1s").exits_with(101).prints("timed out after 1s");
    // What is asked for goes before what the environment says.
    meet(&["--test-threads", "2"], "1", "30s").exits_with(0).prints("2 passed;");
    meet(&["--test-threads", "1"], "2", "1s").exits_with(101).prints("timed out after 1s");
}

fn no_threads_are_refused() {
    let refused = run_tests(&["command_line::meets", "--test-threads", "0"]);
    refused.exits_with(101).complains("--test-threads must not be 0");
    for threads in ["0", "many"] {
        let refused = run(subject("harness").env("RUST_TEST_THREADS", threads).arg("command_line::meets"));
        refused.exits_with(101).complains(&format!("RUST_TEST_THREADS is '{threads}'"));
    }
}
