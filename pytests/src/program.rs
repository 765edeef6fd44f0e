//! Programs that tests run, each in a process of its own: for what there is once in a process.

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    process::{self, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use pyo3::prelude::*;

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

/// Runs `child` in a forked process, to its end.
///
/// # Errors
///
/// What Python raises when it forks or waits.
///
/// # Panics
///
/// When the child fails.
pub fn in_child(child: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    Python::attach(|py| {
        let os = py.import("os")?;
        let id: i32 = os.call_method0("fork")?.extract()?;
        if id != 0 {
            let (_, status): (i32, i32) = os.call_method1("waitpid", (id, 0))?.extract()?;
            assert_eq!(status, 0, "the child fails");
            return Ok(());
        }
        // It has none of the threads that would end it when it hangs.
        py.import("signal")?.call_method1("alarm", (LIMIT.as_secs(),))?;
        let failed = panic::catch_unwind(AssertUnwindSafe(child)).map(|result| result.inspect_err(|e| e.display(py)));
        os.call_method1("_exit", (if matches!(failed, Ok(Ok(()))) { 0 } else { 1 },))?;
        unreachable!("the child has ended")
    })
}
