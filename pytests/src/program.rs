//! Programs that tests run, each in a process of its own: for what there is once in a process.

use std::{
    env,
    process::{self, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// Says which program a process is.
const VARIABLE: &str = "PYO3_AWAIT_PROGRAM";

/// What no program may take.
const LIMIT: Duration = Duration::from_secs(45);

/// A program by its name; it fails by a panic.
pub type Program = (&'static str, fn());

/// Is the program that the process was started as, or else `tests`.
///
/// # Panics
///
/// When the program does.
pub fn main(programs: &[Program], tests: fn() -> ExitCode) -> ExitCode {
    let Some(name) = env::var_os(VARIABLE) else { return tests() };
    let (_, program) = programs.iter().find(|(program, _)| name == *program).expect("a test names a program");
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("the program has not ended after {LIMIT:?}");
        process::abort();
    });
    program();
    ExitCode::SUCCESS
}

/// Runs one of the programs that [`main`] of this process was given, to its end.
///
/// # Panics
///
/// When it fails, with what it has written.
pub fn run(name: &str) {
    let mut command = Command::new(env::current_exe().expect("a process knows its program"));
    command.env(VARIABLE, name).stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
}
