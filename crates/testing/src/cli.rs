//! From the command line to an exit code.

use std::{
    env,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use futures::channel::oneshot;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pyo3::{
    exceptions::{PyRuntimeError, PySystemExit},
    prelude::*,
};

use crate::{
    harness::Harness,
    panics,
    registry::{self, TESTS, Test},
    timeout,
    watchdog::FAILED,
};

/// How long the main function has to take the result, when a test has a thread that it does not give back.
const LAST_CALL: Duration = Duration::from_secs(5);

/// How many tests run at once, where `--test-threads` does not say it; as with Rust's own harness.
const THREADS: &str = "RUST_TEST_THREADS";

/// How far the run has come: one of the constants below, in their order.
///
/// `main` stores the first ones, and the thread that runs the tests the last, before `main` hears of it; only
/// [`conclude`] looks, and at nothing but the value.
static STAGE: AtomicU8 = AtomicU8::new(NOT_CALLED);

/// `main` was not called.
const NOT_CALLED: u8 = 0;
/// `main` was called, but tests do not run.
const CALLED: u8 = 1;
/// Tests run.
const RUNNING: u8 = 2;
/// All tests have run, and none has failed.
const PASSED: u8 = 3;
/// All tests have run, and some have failed.
const NOT_PASSED: u8 = 4;

/// Lists the tests, or refuses the command line, before Python is started.
#[linkme::distributed_slice(pyo3_await::private::EARLY)]
static LIST: fn() -> Option<ExitCode> = list;

/// Sees that a run which was cut short, forgotten or not heeded has failed, when all is over.
#[linkme::distributed_slice(pyo3_await::private::LATE)]
static CONCLUDE: fn(&str, u8) -> u8 = conclude;

fn list() -> Option<ExitCode> {
    if TESTS.is_empty() {
        return None;
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return Some(ExitCode::from(FAILED));
        }
    };
    arguments.list.then(|| {
        let trials = registry::sorted().into_iter().map(|(path, test)| trial(&arguments, path, test, || Ok(())));
        libtest_mimic::run(&arguments, trials.collect()).exit_code()
    })
}

/// The command line, completed from the environment.
///
/// # Errors
///
/// What is wrong with the number of threads; what else is wrong ends the process.
fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments::from_args();
    match (arguments.test_threads, env::var_os(THREADS)) {
        (Some(0), _) => return Err("argument for --test-threads must not be 0".to_owned()),
        (None, Some(text)) => {
            let threads = text.to_str().and_then(|text| text.parse().ok()).filter(|&threads: &usize| threads > 0);
            let text = text.to_string_lossy();
            let error = || format!("{THREADS} is '{text}'; expected a number of threads, 1 or more");
            arguments.test_threads = Some(threads.ok_or_else(error)?);
        }
        _ => {}
    }
    Ok(arguments)
}

fn conclude(main: &str, code: u8) -> u8 {
    // A main function of another name is the program's business, which may be to test what such functions do.
    let is_asked = main.ends_with("::main") && !TESTS.is_empty();
    let expected = match STAGE.load(Ordering::Relaxed) {
        NOT_CALLED if !is_asked => return code,
        NOT_CALLED | CALLED if code == 0 => {
            eprintln!("error: no test has run: let the main function end with `testing::main().await`");
            return FAILED;
        }
        NOT_CALLED | CALLED => return code,
        RUNNING => None,
        PASSED => Some(0),
        _ => Some(FAILED),
    };
    if expected == Some(code) {
        return code;
    }
    // Python code may end the event loop while tests run, or when they have just ended: its exit code is what comes out
    // of the loop then, whatever `main` returns.
    eprintln!("error: the program was ended by something else than the end of its tests");
    if code == 0 { FAILED } else { code }
}

/// Runs the tests that the command line asks for, and ends the program.
///
/// It is the whole of a test target's main function:
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyo3_await_tokio::main]
/// async fn main() -> PyResult<()> {
///     pyo3_await_tokio::testing::main().await
/// }
/// ```
///
/// # Errors
///
/// Always: `SystemExit`, with the exit code of Rust's own harness, so that the end of the process is as of any Python
/// program, `atexit` handlers included.
/// `RuntimeError` outside an event loop.
pub async fn main() -> PyResult<()> {
    STAGE.store(CALLED, Ordering::Relaxed);
    let arguments = arguments().map_err(PySystemExit::new_err)?;
    let timeout = timeout::from_environment().map_err(PySystemExit::new_err)?;
    panics::remember_locations();
    let (harness, trials) = Python::attach(|py| {
        let harness = Arc::new(Harness::new(py, timeout)?);
        let trials = trials(py, &harness, &arguments)?;
        PyResult::Ok((harness, trials))
    })?;
    STAGE.store(RUNNING, Ordering::Relaxed);
    let (conclude, concluded) = oneshot::channel();
    let (taken, taking) = mpsc::channel::<()>();
    thread::Builder::new().name("pyo3-await-testing".to_owned()).spawn(move || {
        let failed = libtest_mimic::run(&arguments, trials).has_failed();
        STAGE.store(if failed { NOT_PASSED } else { PASSED }, Ordering::Relaxed);
        let code = if failed { FAILED.into() } else { 0 };
        // Nobody waits for it when the run was interrupted.
        let _ = conclude.send(code);
        if !harness.running().is_empty() && taking.recv_timeout(LAST_CALL) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{} keeps a thread of the runtime, and the program can't end by itself", harness.suspects());
            process::exit(code);
        }
    })?;
    let code = concluded.await;
    drop(taken);
    let code = code.map_err(|_| PyRuntimeError::new_err("the thread that runs the tests panicked"))?;
    Err(PySystemExit::new_err(code))
}

fn trials(py: Python<'_>, harness: &Arc<Harness>, arguments: &Arguments) -> PyResult<Vec<Trial>> {
    let trials = registry::sorted().into_iter().map(|(path, test)| {
        let seat = harness.tasks().seat(py)?;
        let harness = Arc::clone(harness);
        let name = path.clone();
        Ok(trial(arguments, name, test, move || harness.run(path, test, seat)))
    });
    trials.collect()
}

fn trial(
    arguments: &Arguments,
    path: String,
    test: &Test,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let asked_for = arguments.list || arguments.ignored || arguments.include_ignored;
    match test.ignore {
        // The flag alone has no place for the reason.
        Some(Some(reason)) if !asked_for => Trial::ignorable_test(path, move || Ok(Completion::ignored_with(reason))),
        ignore => Trial::test(path, run).with_ignored_flag(ignore.is_some()),
    }
}
