//! Rust programs with an interpreter in them, that end while futures are under way: `cargo xtask stress embedded`.
//!
//! Each situation ends in two ways: `#[main]` ends the process and leaves the interpreter as it is, and an interpreter
//! that PyO3 has embedded for a while is finalized, beside the threads of the runtime.

use std::{
    env,
    future::Future,
    os::unix::process::CommandExt as _,
    panic,
    pin::Pin,
    process::{Command, ExitCode},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::stream;
use pyo3::{
    exceptions::{PyKeyboardInterrupt, PySystemExit},
    prelude::*,
    types::{PyCFunction, PyDict},
};
use pyo3_await_tokio::{RustPanic, TaskLocals, block_on, into_async_iterator, into_coroutine, into_future, run, spawn};
use tokio::{sync::Semaphore, time::sleep};

/// Longer than any process is meant to last.
const FOR_EVER: Duration = Duration::from_secs(3600);

type Main = Pin<Box<dyn Future<Output = PyResult<()>> + Send>>;

struct Situation {
    name: &'static str,
    /// The exit status that it should have.
    status: u8,
    main: fn() -> Main,
}

/// All that there are.
const SITUATIONS: &[Situation] = &[
    Situation { name: "pending", status: 0, main: || Box::pin(pending()) },
    Situation { name: "completing", status: 0, main: || Box::pin(completing()) },
    Situation { name: "spawned", status: 0, main: || Box::pin(spawned()) },
    Situation { name: "busy", status: 0, main: || Box::pin(busy()) },
    Situation { name: "attaching", status: 0, main: || Box::pin(attaching()) },
    Situation { name: "awaiting_python", status: 0, main: || Box::pin(awaiting_python()) },
    Situation { name: "iterating", status: 0, main: || Box::pin(iterating()) },
    Situation { name: "blocked_threads", status: 0, main: || Box::pin(blocked_threads()) },
    Situation { name: "daemon_thread", status: 0, main: || Box::pin(daemon_thread()) },
    Situation { name: "exit_code", status: 3, main: || Box::pin(exit_code()) },
    Situation { name: "interrupted", status: 130, main: || Box::pin(interrupted()) },
    Situation { name: "panicking", status: 101, main: || Box::pin(panicking()) },
];

/// What of it a process is to do.
fn chosen() -> Option<(&'static Situation, bool)> {
    let name = env::args().nth(1)?;
    let (name, way) = name.split_once('-')?;
    let situation = SITUATIONS.iter().find(|situation| situation.name == name)?;
    Some((situation, way == "finalized"))
}

fn main() -> ExitCode {
    match chosen() {
        Some((situation, true)) => finalized(situation),
        Some((_, false)) => left(),
        None => {
            for Situation { name, status, .. } in SITUATIONS {
                println!("{name}-left {status} 1\n{name}-finalized {status} 1");
            }
            ExitCode::SUCCESS
        }
    }
}

/// The program of somebody who uses `#[main]`.
#[pyo3_await_tokio::main]
async fn left() -> PyResult<()> {
    let (situation, _) = chosen().expect("it was chosen before");
    Python::attach(prepare)?;
    (situation.main)().await
}

/// The program of somebody who embeds an interpreter, and lives longer than that.
fn finalized(situation: &Situation) -> ExitCode {
    let work = |py: Python<'_>| {
        prepare(py).expect("Python has what is needed");
        let outcome = panic::catch_unwind(|| run(py, (situation.main)()));
        match outcome {
            Ok(Ok(())) => 0,
            Ok(Err(error)) if error.is_instance_of::<PySystemExit>(py) => 3,
            Ok(Err(error)) if error.is_instance_of::<PyKeyboardInterrupt>(py) => 130,
            Ok(Err(error)) if error.is_instance_of::<RustPanic>(py) => 101,
            Ok(Err(_)) | Err(_) => 1,
        }
    };
    // SAFETY: this is the main function, which has used no Python before and uses none after.
    let status: u8 = unsafe { pyo3::with_embedded_python_interpreter(work) };
    // The runtime's threads go on beside what is left of the interpreter.
    thread::sleep(Duration::from_millis(20));
    // SAFETY: the function does nothing. With one, the process is forked and not spawned.
    let forked = unsafe { Command::new("true").pre_exec(|| Ok(())).status() };
    if !forked.as_ref().is_ok_and(|status| status.success()) {
        eprintln!("a child that is forked after the interpreter's end: {forked:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(status)
}

/// Has the end of the program take its time, and be told; and keeps what is expected from being printed.
fn prepare(py: Python<'_>) -> PyResult<()> {
    panic::set_hook(Box::new(|_| {}));
    py.run(
        cr#"
import atexit, sys, time

def linger():
    until = time.monotonic() + 0.02
    while time.monotonic() < until:
        pass
    print("end", flush=True)

atexit.register(linger)
sys.excepthook = lambda *arguments: None
kept = sys.kept = []
"#,
        None,
        None,
    )
}

/// Holds an object until the interpreter has ended.
fn keep(object: &Bound<'_, PyAny>) -> PyResult<()> {
    object.py().import("sys")?.getattr("kept")?.call_method1("append", (object,)).map(drop)
}

/// Has a Python task await a Rust future, and a Rust task await that.
fn start<F, T>(py: Python<'_>, future: F) -> PyResult<()>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let coroutine = into_coroutine(py, async {
        STARTED.add_permits(1);
        future.await
    })?;
    let task = into_future(coroutine)?;
    spawn(async move { drop(task.await) })
}

/// How many have started and were not waited for.
static STARTED: Semaphore = Semaphore::const_new(0);

/// Waits until so many have. A task that is posted while the loop cancels those that it has would be destroyed later,
/// and Python says so.
async fn started(count: u32) {
    STARTED.acquire_many(count).await.expect("it is never closed").forget();
}

async fn pending() -> PyResult<()> {
    Python::attach(|py| {
        (0..20).try_for_each(|_| {
            let value = PyDict::new(py).unbind();
            start(py, async move {
                sleep(FOR_EVER).await;
                Ok(value)
            })
        })
    })?;
    started(20).await;
    Ok(())
}

/// Futures that end one by one, from now until well after the program has begun to end.
async fn completing() -> PyResult<()> {
    Python::attach(|py| {
        (0..400).try_for_each(|number| {
            let value = PyDict::new(py).unbind();
            start(py, async move {
                sleep(Duration::from_micros(100) * number).await;
                Ok(value)
            })
        })
    })?;
    started(400).await;
    Ok(())
}

/// Tasks of the runtime, which nobody awaits.
async fn spawned() -> PyResult<()> {
    Python::attach(|py| {
        (0..50).try_for_each(|number| {
            let value = PyDict::new(py).unbind();
            spawn(async move {
                sleep(Duration::from_micros(500) * number).await;
                Python::attach(|py| drop(value.clone_ref(py)));
            })
        })
    })?;
    sleep(Duration::from_millis(5)).await;
    Ok(())
}

/// Workers in polls that end soon after the program wants to.
async fn busy() -> PyResult<()> {
    Python::attach(|py| {
        (0..8).try_for_each(|_| {
            start(py, async {
                thread::sleep(Duration::from_millis(50));
                Ok(())
            })
        })
    })?;
    started(8).await;
    Ok(())
}

/// Futures that attach to Python again and again, in one poll and in many.
async fn attaching() -> PyResult<()> {
    fn call(py: Python<'_>) -> PyResult<()> {
        py.import("time")?.call_method1("sleep", (0,))?;
        py.detach(thread::yield_now);
        Ok(())
    }

    for _ in 0..2 {
        spawn(async {
            loop {
                Python::attach(call).expect("sleep does not raise");
                tokio::task::yield_now().await;
            }
        })?;
        spawn(async {
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(30) {
                Python::attach(call).expect("sleep does not raise");
            }
        })?;
    }
    sleep(Duration::from_millis(5)).await;
    Ok(())
}

/// Rust awaits Python, which is not going to end.
async fn awaiting_python() -> PyResult<()> {
    for _ in 0..20 {
        let future = Python::attach(|py| {
            // A future, since asyncio would complain of a task.
            into_future(TaskLocals::current(py)?.event_loop(py)?.call_method0("create_future")?)
        })?;
        spawn(async move { drop(future.await) })?;
    }
    sleep(Duration::from_millis(5)).await;
    Ok(())
}

/// Streams that are taken from, and left open.
async fn iterating() -> PyResult<()> {
    let value = Arc::new(Python::attach(|py| PyDict::new(py).unbind()));
    for _ in 0..10 {
        let value = Arc::clone(&value);
        let next = Python::attach(|py| {
            let ticks = stream::unfold((), move |()| {
                let value = Arc::clone(&value);
                async move {
                    sleep(Duration::from_micros(500)).await;
                    Some((Ok(Python::attach(|py| value.clone_ref(py))), ()))
                }
            });
            let iterator = into_async_iterator(py, ticks)?;
            keep(&iterator)?;
            into_future(iterator.call_method0("__anext__")?)
        })?;
        next.await?;
    }
    Ok(())
}

/// Rust's own threads that wait for futures on behalf of Python, some of which end about now.
async fn blocked_threads() -> PyResult<()> {
    let wait = |time| {
        let wait = move |py: Python<'_>| {
            block_on(py, async move {
                sleep(time).await;
                Ok(())
            })
        };
        thread::spawn(move || Python::attach(wait));
    };
    (0..4).for_each(|_| wait(FOR_EVER));
    (0..40).for_each(|number| wait(Duration::from_millis(number)));
    sleep(Duration::from_millis(10)).await;
    Ok(())
}

/// The loop of a daemon thread of Python's, which resumes tasks again and again.
async fn daemon_thread() -> PyResult<()> {
    fn nap(py: Python<'_>) -> PyResult<Py<PyAny>> {
        let nap = into_coroutine(py, async {
            sleep(Duration::from_micros(100)).await;
            Ok(())
        })?;
        Ok(nap.unbind())
    }

    Python::attach(|py| {
        let names = PyDict::new(py);
        let nap = PyCFunction::new_closure(py, None, None, |arguments, _| nap(arguments.py()))?;
        names.set_item("nap", nap)?;
        py.run(
            cr#"
import asyncio, threading, time

async def use():
    while True:
        await nap()
        time.sleep(0)

async def main():
    await asyncio.gather(*(use() for _ in range(10)))

threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
"#,
            Some(&names),
            None,
        )
    })?;
    sleep(Duration::from_millis(20)).await;
    Ok(())
}

async fn exit_code() -> PyResult<()> {
    pending().await?;
    Err(PySystemExit::new_err(3))
}

/// Ctrl-C, while futures are under way.
async fn interrupted() -> PyResult<()> {
    pending().await?;
    Python::attach(|py| {
        let signal = py.import("signal")?;
        let number = signal.getattr("SIGINT")?;
        py.import("os")?.call_method1("kill", (std::process::id(), number)).map(drop)
    })?;
    sleep(FOR_EVER).await;
    Ok(())
}

async fn panicking() -> PyResult<()> {
    pending().await?;
    panic!("on purpose")
}
