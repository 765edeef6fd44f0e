//! What happens to children that end, that do not, and that are not there.

use std::{path::PathBuf, sync::mpsc::Receiver, time::Instant};

use xshell::{Shell, TempDir, cmd};

use super::*;

/// Far beyond what any of these take, far below what a person would wait for.
const LONG: Duration = Duration::from_secs(60);

fn runner() -> Runner {
    Runner::new(LONG)
}

/// A named pipe: opening either end waits for the other.
fn pipe() -> (TempDir, PathBuf) {
    let shell = Shell::new().unwrap();
    let directory = shell.create_temp_dir().unwrap();
    let pipe = directory.path().join("pipe");
    cmd!(shell, "mkfifo {pipe}").quiet().run().unwrap();
    (directory, pipe)
}

/// Runs a script, elsewhere, so that a run without end fails the test.
fn capture(runner: &Runner, script: &str) -> Result<Finished> {
    start(runner, script, Output::Capture).recv_timeout(2 * LONG).expect("a run that ends")
}

fn start(runner: &Runner, script: &str, output: Output) -> Receiver<Result<Finished>> {
    let (runner, script) = (runner.clone(), script.to_owned());
    let (sender, result) = mpsc::channel();
    thread::spawn(move || {
        let shell = Shell::new().unwrap();
        sender.send(runner.run(cmd!(shell, "sh -c {script}"), output))
    });
    result
}

#[test]
fn output_and_status_are_kept() {
    let finished = capture(&runner(), "echo one; printf two; exit 3").unwrap();
    assert_eq!(finished.output, "one\ntwo");
    assert_eq!(finished.exit_code(), Some(3));
    assert!(!finished.success());
    assert_eq!(finished.ending.to_string(), "exit code 3");
}

#[test]
fn standard_error_is_kept_where_it_is_asked_for() {
    let finished = start(&runner(), "echo one; echo two >&2", Output::CaptureBoth).recv_timeout(LONG).unwrap().unwrap();
    let mut lines: Vec<_> = finished.output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
}

/// Each of the two opens one end of a pipe, which waits for the other.
#[test]
fn children_run_at_the_same_time() {
    let (_directory, pipe) = pipe();
    let write = start(&runner(), &format!("echo one > {}", pipe.display()), Output::Capture);
    let read = start(&runner(), &format!("cat {}", pipe.display()), Output::Capture);
    assert!(write.recv_timeout(LONG).unwrap().unwrap().success());
    assert_eq!(read.recv_timeout(LONG).unwrap().unwrap().output, "one\n");
}

#[test]
fn a_signal_reaches_every_child() {
    let started = Instant::now();
    let runner = Runner { grace: LONG, ..runner() };
    let children: Vec<_> = (0..2)
        .map(|_| {
            let (directory, ready) = pipe();
            let script = format!(": > {}; exec tail -f /dev/null", ready.display());
            let child = start(&runner, &script, Output::Capture);
            // Opening the pipe waits for the child to open it too.
            std::fs::read(ready).unwrap();
            (directory, child)
        })
        .collect();
    assert!(deliver(&runner.interrupt, SIGTERM));
    for (_directory, child) in children {
        assert_eq!(child.recv_timeout(2 * LONG).unwrap().unwrap_err(), Stop::Signal(SIGTERM));
    }
    assert!(started.elapsed() < LONG);
}

#[test]
fn there_is_no_standard_input() {
    assert_eq!(capture(&runner(), "cat; echo end").unwrap().output, "end\n");
}

/// What a command removes from, and what it adds to, the environment that it inherits.
fn changes(command: &Command) -> Vec<(&str, Option<&str>)> {
    command
        .get_envs()
        .map(|(name, value)| (name.to_str().unwrap(), value.map(|value| value.to_str().unwrap())))
        .collect()
}

#[test]
fn variables_that_change_what_is_tried_do_not_reach_a_child() {
    let inherited = ["CARGO_BUILD_TARGET", "CARGO_HOME", "CONDA_PREFIX", "PATH", "PIP_INDEX_URL", "PIP_PREFIX"];
    let inherited = inherited.iter().chain(&["PIP_TARGET", "PIP_USER", "PYO3_AWAIT_TEST_TIMEOUT", "PYO3_CONFIG_FILE"]);
    let inherited = inherited.chain(&["PYO3_PYTHON", "PYTEST_ADDOPTS", "PYTHONHASHSEED", "PYTHONOPTIMIZE"]);
    let inherited = inherited.chain(&["PYTHONPATH", "THEPYTHON"]);
    let mut command = Command::new("env");
    command.env("PYO3_PYTHON", "chosen").env("PYTHONHASHSEED", "0");
    clean(&mut command, inherited.map(OsString::from));
    let expected = [
        ("CARGO_BUILD_TARGET", None),
        ("CONDA_PREFIX", None),
        ("PIP_PREFIX", None),
        ("PIP_TARGET", None),
        ("PIP_USER", None),
        ("PYO3_CONFIG_FILE", None),
        ("PYO3_PYTHON", Some("chosen")),
        ("PYTEST_ADDOPTS", None),
        ("PYTHONHASHSEED", Some("0")),
        ("PYTHONOPTIMIZE", None),
        ("PYTHONPATH", None),
    ];
    assert_eq!(changes(&command), expected);
}

#[test]
fn a_program_that_is_not_there_is_no_panic() {
    let shell = Shell::new().unwrap();
    let finished = runner().run(cmd!(shell, "xtask-has-no-such-program"), Output::Capture).unwrap();
    assert!(matches!(finished.ending, Ending::Error(_)));
    assert!(finished.expect("look").unwrap_err().to_string().starts_with("error: look: cannot be run: "));
}

#[test]
fn a_signal_that_ends_a_child_is_named() {
    let finished = capture(&runner(), "kill -ABRT $$").unwrap();
    assert_eq!(finished.ending.to_string(), "ended by signal 6");
}

/// Runs a script whose time is up when it has opened the pipe `$1`.
fn timed_out(grace: Duration, script: &str) -> Finished {
    let (_directory, ready) = pipe();
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&ready).stdout(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap();
    std::fs::read(ready).unwrap();
    let runner = Runner { grace, ..Runner::new(Duration::from_millis(100)) };
    let (finished, result) = mpsc::channel();
    thread::spawn(move || {
        let (sender, events) = mpsc::channel();
        finished.send(Watch::new(&runner, child, sender, Output::Capture).follow(&events))
    });
    result.recv_timeout(2 * LONG).expect("a run that ends")
}

/// A child of the child ignores what asks the group to end, and holds the pipe open until it is killed: that the run
/// ends at all shows that it was.
#[test]
fn a_time_limit_ends_the_whole_group() {
    let started = Instant::now();
    let finished = timed_out(Duration::from_millis(100), "trap '' INT; tail -f /dev/null & trap - INT; : > $1; wait");
    assert_eq!(finished.ending.to_string(), "killed after 0.1 s, its time limit");
    assert!(started.elapsed() < LONG);
}

#[test]
fn what_a_time_limit_ends_says_how_far_it_has_come() {
    let script = "trap 'echo one failed; exit 2' INT; : > $1; while :; do sleep 0.01; done";
    let finished = timed_out(LONG, script);
    assert!(matches!(finished.ending, Ending::TimedOut(_)));
    assert_eq!(finished.output, "one failed\n");
}

#[test]
fn what_ignores_the_request_to_end_is_killed() {
    let started = Instant::now();
    let finished = timed_out(Duration::from_millis(100), "trap '' INT; : > $1; tail -f /dev/null");
    assert!(matches!(finished.ending, Ending::TimedOut(_)));
    assert!(started.elapsed() < LONG);
}

/// What is left behind holds a pipe open: that its reader comes to an end shows that it was killed.
///
/// The child's standard output may be read or not, and be held by it or not.
#[test]
fn what_is_left_behind_is_killed_and_told_of() {
    let runner = Runner { grace: Duration::from_millis(500), ..runner() };
    for (output, closes) in [(Output::Capture, ""), (Output::Capture, ">/dev/null"), (Output::Inherit, "")] {
        let started = Instant::now();
        let (_directory, pipe) = pipe();
        let script = format!("exec 3> {}; tail -f /dev/null {closes} & :", pipe.display());
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || sender.send(std::fs::read(pipe)));
        let finished = start(&runner, &script, output).recv_timeout(2 * LONG).unwrap().unwrap();
        assert!(!finished.success());
        assert_eq!(finished.ending.to_string(), "left processes behind, which were killed");
        assert!(started.elapsed() < LONG);
        ended.recv_timeout(LONG).unwrap().unwrap();
    }
}

#[test]
fn what_ends_soon_after_the_child_is_not_left_behind() {
    let runner = Runner { grace: LONG, ..runner() };
    let script = "(while kill -0 $$; do sleep 0.01; done) >/dev/null 2>&1 & :";
    assert!(capture(&runner, script).unwrap().success());
}

#[test]
fn a_child_that_fails_and_leaves_something_behind_has_failed() {
    let runner = Runner { grace: Duration::from_millis(100), ..runner() };
    let finished = capture(&runner, "tail -f /dev/null & exit 3").unwrap();
    assert_eq!(finished.exit_code(), Some(3));
}

/// Grace is long, so that the child has ended by the signal itself and was not killed.
#[test]
fn a_signal_reaches_the_child_and_stops_the_command() {
    let started = Instant::now();
    let runner = Runner { grace: LONG, ..runner() };
    assert!(!deliver(&runner.interrupt, SIGTERM), "before any child runs there is nobody to tell");
    let (_directory, ready) = pipe();
    let interrupt = Arc::clone(&runner.interrupt);
    let pipe = ready.clone();
    let sender = thread::spawn(move || {
        // Opening the pipe waits for the child to open it too.
        std::fs::read(pipe).unwrap();
        deliver(&interrupt, SIGTERM)
    });
    let script = format!(": > {}; exec tail -f /dev/null", ready.display());
    assert_eq!(capture(&runner, &script).unwrap_err(), Stop::Signal(SIGTERM));
    assert!(sender.join().unwrap());
    assert!(started.elapsed() < LONG);
    assert_eq!(capture(&runner, "true").unwrap_err(), Stop::Signal(SIGTERM), "nothing runs after it");
}

/// It may have been asked for before the signal came.
#[test]
fn no_child_is_noted_after_a_signal() {
    let runner = runner();
    let (sender, _events) = mpsc::channel();
    let mut interrupt = lock(&runner.interrupt);
    interrupt.start(sender.clone()).unwrap();
    drop(interrupt);
    assert!(deliver(&runner.interrupt, SIGTERM));
    assert_eq!(lock(&runner.interrupt).start(sender), Err(Stop::Signal(SIGTERM)));
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    assert_eq!(Stop::Signal(SIGINT).exit_code(), 130);
    assert_eq!(Stop::Signal(SIGTERM).exit_code(), 143);
    assert_eq!(Stop::Failed(String::new()).exit_code(), 1);
}
