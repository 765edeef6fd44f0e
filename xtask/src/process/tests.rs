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

#[test]
fn variables_that_change_python_do_not_reach_a_child() {
    let shell = Shell::new().unwrap();
    for name in REMOVED {
        shell.set_var(name, "/nowhere");
    }
    shell.set_var("XTASK_TEST", "kept");
    let finished = runner().run(cmd!(shell, "env"), Output::Capture).unwrap();
    assert!(finished.output.contains("XTASK_TEST=kept"));
    assert!(!finished.output.contains("/nowhere"), "{}", finished.output);
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

/// A child of the child holds the pipe open until it is killed: that the run ends at all shows that it was.
#[test]
fn a_time_limit_ends_the_whole_group() {
    let started = Instant::now();
    let runner = Runner { grace: LONG, ..Runner::new(Duration::from_millis(100)) };
    let finished = capture(&runner, "tail -f /dev/null & wait").unwrap();
    assert_eq!(finished.ending.to_string(), "killed after 0.1 s, its time limit");
    assert!(started.elapsed() < LONG);
}

#[test]
fn what_ignores_the_request_to_end_is_killed() {
    let started = Instant::now();
    let runner = Runner { grace: Duration::from_millis(100), ..Runner::new(Duration::from_millis(100)) };
    let finished = capture(&runner, "trap '' TERM; tail -f /dev/null").unwrap();
    assert!(matches!(finished.ending, Ending::TimedOut(_)));
    assert!(started.elapsed() < LONG);
}

/// What is left behind holds a pipe open: that its reader comes to an end shows that it was killed.
#[test]
fn what_is_left_behind_is_killed() {
    let started = Instant::now();
    let runner = Runner { grace: Duration::from_millis(500), ..runner() };
    let (_directory, pipe) = pipe();
    let script = format!("exec 3> {}; tail -f /dev/null & echo done", pipe.display());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(std::fs::read(pipe)));
    let finished = capture(&runner, &script).unwrap();
    assert!(finished.success(), "{}", finished.ending);
    assert_eq!(finished.output, "done\n");
    assert!(started.elapsed() < LONG);
    ended.recv_timeout(LONG).unwrap().unwrap();
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

#[test]
fn exit_codes_are_those_of_a_shell() {
    assert_eq!(Stop::Signal(SIGINT).exit_code(), 130);
    assert_eq!(Stop::Signal(SIGTERM).exit_code(), 143);
    assert_eq!(Stop::Failed(String::new()).exit_code(), 1);
}
