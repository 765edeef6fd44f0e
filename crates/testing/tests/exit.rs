//! How a program made by `#[main]` begins and ends.

#[macro_use]
mod support;

use std::{
    env,
    fs::File,
    process::{Command, ExitCode, Stdio},
};

use pyo3::prelude::*;
use support::{Case, Run, Subject, interrupted, interruptible, run, subject};

fn main() -> ExitCode {
    let subjects: &[Subject] = &[
        ("nothing", nothing),
        ("python", python),
        ("rust_error", rust_error),
        ("panics", panics),
        ("panics_later", panics_later),
        ("current_thread", current_thread),
        ("three_threads", three_threads),
        ("uvloop", uvloop),
        ("used_before", used_before),
    ];
    support::main(subjects, CASES)
}

const CASES: &[Case] = cases![
    a_main_without_output_succeeds,
    system_exit_with_a_number,
    system_exit_without_a_number,
    system_exit_out_of_python_code,
    an_exception_has_a_traceback,
    an_exception_goes_through_the_excepthook,
    a_rust_error_is_shown_as_rust_shows_it,
    a_panic_has_rusts_exit_code,
    ctrl_c_is_a_keyboard_interrupt,
    a_signal_in_another_thread_wakes_the_event_loop,
    an_ignored_ctrl_c_stays_ignored,
    what_was_printed_arrives,
    what_cannot_be_flushed_is_reported,
    atexit_handlers_run_last,
    arguments_are_pythons,
    the_event_loop_is_on_the_main_thread,
    the_runtime_can_be_shaped,
    a_runtime_in_use_can_not_be_shaped,
    the_event_loop_can_be_uvloops,
];

#[pyo3_await_tokio::main]
async fn nothing() {
    tokio::task::yield_now().await;
}

/// Runs the Python code in its first argument; what `main()` in it returns is awaited.
#[pyo3_await_tokio::main]
async fn python() -> PyResult<()> {
    let code = env::args().nth(1).expect("the test gives the code");
    let code = std::ffi::CString::new(code).expect("the code has no zero");
    let coroutine = Python::attach(|py| {
        let module = PyModule::from_code(py, &code, c"subject.py", c"subject")?;
        pyo3_await_tokio::into_future(module.call_method0("main")?)
    })?;
    coroutine.await?;
    Ok(())
}

#[derive(Debug)]
struct Broken {
    #[expect(dead_code, reason = "it is shown by Debug")]
    part: &'static str,
}

#[pyo3_await_tokio::main]
async fn rust_error() -> Result<(), Broken> {
    Err(Broken { part: "spring" })
}

#[pyo3_await_tokio::main]
async fn panics() {
    panic!("before the first await point");
}

#[pyo3_await_tokio::main]
async fn panics_later() -> PyResult<()> {
    tokio::task::yield_now().await;
    Python::attach(|py| {
        let handler = py.eval(c"lambda: print('atexit')", None, None)?;
        py.import("atexit")?.call_method1("register", (handler,))?;
        PyResult::Ok(())
    })?;
    panic!("after the first await point");
}

#[pyo3_await_tokio::main(flavor = "current_thread")]
async fn current_thread() {
    println!("{:?}", tokio::runtime::Handle::current().runtime_flavor());
}

#[pyo3_await_tokio::main(worker_threads = 3)]
async fn three_threads() {
    let handle = tokio::runtime::Handle::current();
    println!("{:?}, {}", handle.runtime_flavor(), handle.metrics().num_workers());
}

#[pyo3_await_tokio::main(event_loop = "uvloop")]
async fn uvloop() {
    println!("on it");
}

fn used_before() -> ExitCode {
    #[pyo3_await_tokio::main(worker_threads = 1)]
    async fn shaped() {
        println!("ran");
    }
    pyo3_await_tokio::current_runtime().expect("the default runtime starts");
    shaped()
}

fn python_subject(code: &str) -> Command {
    let mut command = subject("python");
    command.arg(code);
    command
}

fn run_python(code: &str) -> Run {
    run(&mut python_subject(code))
}

fn a_main_without_output_succeeds() {
    let run = run(&mut subject("nothing"));
    run.exits_with(0).expect("nothing is written", run.stdout.is_empty() && run.stderr.is_empty());
}

fn system_exit_with_a_number() {
    for (argument, code) in [("0", 0), ("3", 3), ("True", 1), ("-1", 255), ("256", 0), ("10**30", 255)] {
        let run = run_python(&format!("async def main(): raise SystemExit({argument})"));
        run.exits_with(code).expect("there is no traceback", run.stderr.is_empty());
    }
}

fn system_exit_without_a_number() {
    for (argument, code, message) in
        [("", 0, ""), ("None", 0, ""), ("'no such file'", 1, "no such file\n"), ("(1, 2)", 1, "(1, 2)\n")]
    {
        let run = run_python(&format!("async def main(): raise SystemExit({argument})"));
        run.exits_with(code).expect("the argument is written, and nothing else", run.stderr == message);
    }
}

/// A task that raises it ends the loop at once, whatever the main function waits for.
fn system_exit_out_of_python_code() {
    let code = "
import asyncio, sys
async def leave(): sys.exit(4)
async def main():
    task = asyncio.create_task(leave())
    await asyncio.get_running_loop().create_future()
";
    let run = run_python(code);
    run.exits_with(4).expect("there is no traceback", run.stderr.is_empty());
}

fn an_exception_has_a_traceback() {
    let run = run_python("async def main():\n    raise ValueError('out of range')");
    run.exits_with(1).complains("Traceback (most recent call last):");
    run.complains("File \"subject.py\", line 2, in main").complains("ValueError: out of range\n");
    run.expect("the event loop has no part in it", !run.stderr.contains("asyncio"));
}

fn an_exception_goes_through_the_excepthook() {
    let code = "
import sys
sys.excepthook = lambda kind, value, traceback: print('hooked', kind.__name__, value)
async def main(): raise ValueError('x')
";
    let run = run_python(code);
    run.exits_with(1).prints("hooked ValueError x\n").expect("nothing else is written", run.stderr.is_empty());
}

fn a_rust_error_is_shown_as_rust_shows_it() {
    let run = run(&mut subject("rust_error"));
    run.exits_with(1).expect("it is the Debug text", run.stderr == "Error: Broken { part: \"spring\" }\n");
}

fn a_panic_has_rusts_exit_code() {
    let early = run(&mut subject("panics"));
    early.exits_with(101).complains("before the first await point");
    early.expect("it is no Python exception", !early.stderr.contains("Traceback"));
    let late = run(&mut subject("panics_later"));
    late.exits_with(101).complains("after the first await point").prints("atexit\n");
    late.expect("it is no Python exception", !late.stderr.contains("Traceback"));
}

/// What waits until it is interrupted, and says when it does.
const WAITS: &str = "
import asyncio
async def main():
    try:
        print('waiting', flush=True)
        await asyncio.sleep(30)
    finally:
        print('cleaned up')
";

fn ctrl_c_is_a_keyboard_interrupt() {
    let run = interrupted(interruptible("python").arg(WAITS), "waiting");
    run.exits_with(130).complains("Traceback").complains("KeyboardInterrupt\n").prints("cleaned up\n");
}

/// Python handles a signal on the main thread, which has to hear of it.
fn a_signal_in_another_thread_wakes_the_event_loop() {
    let code = "
import asyncio, signal, sys, threading
# Nothing but to wait makes a thread let go of the interpreter now.
sys.setswitchinterval(3600)
waits = threading.Event()
def interrupt():
    # This thread runs again when the main thread waits for events, not before.
    waits.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
async def main():
    selector = asyncio.get_running_loop()._selector
    select = selector.select
    def selects(timeout=None):
        if timeout is None or timeout > 60:
            waits.set()
        return select(timeout)
    selector.select = selects
    threading.Thread(target=interrupt).start()
    await asyncio.sleep(3600)
";
    let run = run(interruptible("python").arg(code));
    run.exits_with(130).complains("KeyboardInterrupt\n");
}

fn an_ignored_ctrl_c_stays_ignored() {
    let code = "
import asyncio, sys
async def main():
    print('waiting', flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print('went on')
";
    let mut command = Command::new("sh");
    let program = env::current_exe().expect("the program knows its path");
    command.args(["-c", "trap '' INT; exec \"$0\" \"$1\""]).arg(program).arg(code);
    command.envs(subject("python").get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = interrupted(&mut command, "waiting");
    run.exits_with(0).prints("went on\n").expect("nothing is reported", run.stderr.is_empty());
}

/// Python buffers what it writes to a pipe until its end.
fn what_was_printed_arrives() {
    let code = "
import logging, sys
# It would flush standard error on its own account.
logging._handlerList.clear()
async def main():
    print('out')
    print('err', file=sys.stderr, end='')
";
    let run = run_python(code);
    run.exits_with(0).expect("all of it arrives", run.stdout == "out\n" && run.stderr == "err");
}

fn what_cannot_be_flushed_is_reported() {
    let mut command = python_subject("async def main(): print('lost')");
    command.stdout(File::options().write(true).open("/dev/full").expect("the system has a full device"));
    run(&mut command).exits_with(120).complains("No space left on device");
    let closed = run_python("import sys\nasync def main():\n    sys.stdout.close()\n    sys.stderr = None");
    closed.exits_with(0).expect("nothing is reported", closed.stderr.is_empty());
}

fn atexit_handlers_run_last() {
    let code = "
import atexit, threading, time
def in_thread():
    threading.main_thread().join(0.05)
    print('thread')
def fail(): raise ValueError('in a handler')
async def main():
    atexit.register(print, 'atexit')
    atexit.register(fail)
    print('main')
    threading.Thread(target=in_thread).start()
    raise SystemExit(5)
";
    let run = run_python(code);
    run.exits_with(5).expect("the order is Python's", run.stdout == "main\nthread\natexit\n");
    run.complains("ValueError: in a handler");
}

fn arguments_are_pythons() {
    let code = "import os, sys\n\
        async def main(): print([os.fsencode(a) for a in sys.argv[2:]], os.path.basename(sys.argv[0]))";
    let mut command = python_subject(code);
    command.args(["--flag", "ünïcode"]);
    #[cfg(unix)]
    command.arg(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff"));
    let run = run(&mut command);
    run.exits_with(0).prints(r"[b'--flag', b'\xc3\xbcn\xc3\xafcode', b'\xff'] exit-");
}

fn the_event_loop_is_on_the_main_thread() {
    let code = "
import asyncio, signal, threading
async def main():
    assert threading.current_thread() is threading.main_thread()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, 'signal')
    signal.raise_signal(signal.SIGUSR1)
    await asyncio.sleep(0.01)
";
    run_python(code).exits_with(0).prints("signal\n");
}

fn the_runtime_can_be_shaped() {
    run(&mut subject("current_thread")).exits_with(0).prints("CurrentThread\n");
    run(&mut subject("three_threads")).exits_with(0).prints("MultiThread, 3\n");
}

fn a_runtime_in_use_can_not_be_shaped() {
    let run = run(&mut subject("used_before"));
    run.exits_with(1).complains("RuntimeError: the default tokio runtime is in use already");
    run.expect("it does not run on another runtime instead", run.stdout.is_empty());
}

fn the_event_loop_can_be_uvloops() {
    let fakes = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fakes");
    let run = run(subject("uvloop").env("PYTHONPATH", fakes));
    run.exits_with(0).prints("uvloop.run\n").prints("on it\n");
}
