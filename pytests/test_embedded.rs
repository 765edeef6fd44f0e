//! The situations of the stress program `embedded`, each once, in a process of its own.

use std::{
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Far more than a process takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How many processes run at the same time.
const JOBS: usize = 4;

#[test]
fn an_embedded_interpreter_ends_in_silence_whatever_is_under_way() {
    let listed = run(&[]).expect("the list ends");
    let listed = String::from_utf8(listed.stdout).expect("names are text");
    let situations: Vec<_> = listed
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            (fields[0], fields[1].parse().expect("a status"))
        })
        .collect();
    assert!(!situations.is_empty());
    let failures = thread::scope(|scope| {
        let of_one = |situations: &[_]| situations.iter().filter_map(|&(name, status)| be_in(name, status)).collect();
        let parts = situations.chunks(situations.len().div_ceil(JOBS));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || -> Vec<String> { of_one(part) })).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a process to its end, if that comes in time.
fn run(arguments: &[&str]) -> Option<Output> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_embedded"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it is our child");
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    // It prints less than a pipe holds.
    Some(child.wait_with_output().expect("it is our child"))
}

/// Runs a process, and says how it has failed.
fn be_in(situation: &str, status: i32) -> Option<String> {
    let Some(ended) = run(&[situation]) else { return Some(format!("{situation}: it hangs")) };
    let printed = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let well = ended.status.code() == Some(status) && printed == ["end\n", ""];
    (!well).then(|| format!("{situation}: {}, it printed {printed:?}", ended.status))
}
