//! Event loops that are run from Rust.

use std::{
    ffi::CStr,
    sync::{Arc, Barrier, mpsc},
    thread,
};

use futures::{channel::oneshot, executor::block_on};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};
use pyo3_await_pytests::{Code, Counter, on_loop};

use super::{environment::event_loop_module, way::Way};
use crate::adapter::{
    self, Runtime as _, RustPanic, TaskLocals, current_runtime, into_future, run, run_forever, run_until_complete,
    scope,
};

/// A new event loop of the kind that the program is about.
pub(super) fn new_event_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(event_loop_module())?.call_method0("new_event_loop")
}

/// Keeps a loop from saying that it was closed before its tasks had ended.
fn silence(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let handler = event_loop.py().eval(c"lambda *_: None", None, None)?;
    event_loop.call_method1("set_exception_handler", (handler,)).map(drop)
}

/// Awaits `asyncio.sleep(0, value)`.
async fn python(value: usize) -> PyResult<usize> {
    let sleep = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0, value))?))?;
    let value = sleep.await?;
    Python::attach(|py| value.extract(py))
}

/// What is never a Python object.
#[derive(Debug, PartialEq)]
struct NotForPython(usize);

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn run_gives_what_the_future_gives() -> PyResult<()> {
    Python::attach(|py| {
        assert_eq!(run(py, async { Ok(NotForPython(python(1).await?)) })?, NotForPython(1));

        let raised = PyValueError::new_err("the error");
        let object = raised.value(py).clone();
        let error = run(py, async { Err::<(), _>(raised) }).expect_err("it is raised");
        assert!(error.value(py).is(&object), "{error}");

        let error = run(py, async { panics() }).expect_err("it panics");
        assert!(error.is_instance_of::<RustPanic>(py), "{error}");
        Ok(())
    })
}

fn panics() -> PyResult<()> {
    panic!("in a run")
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn an_exit_in_python_ends_the_run() -> PyResult<()> {
    let code = Code::new(
        c"
async def leave(error):
    await asyncio.sleep(0)
    raise error
",
    )?;
    let code = Arc::new(code);
    for class in ["SystemExit", "KeyboardInterrupt"] {
        let code = Arc::clone(&code);
        Python::attach(|py| {
            let event_loop = new_event_loop(py)?;
            silence(&event_loop)?;
            let raised = py.import("builtins")?.getattr(class)?.call1((3,))?.unbind();
            let object = raised.clone_ref(py);
            let leave = async move { code.future("leave", (raised,))?.await.map(drop) };
            let error = run_until_complete(&event_loop, leave).expect_err("it ends the run");
            assert!(error.value(py).is(&object), "{error}");
            event_loop.call_method0("close").map(drop)
        })?;
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn run_ends_its_loop_as_asyncio_does() -> PyResult<()> {
    let code = Code::new(
        c"
import threading

events = []

async def background():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        # The loop still runs: there is time to clean up.
        await asyncio.sleep(0)
        events.append('background task cancelled')

async def generator():
    try:
        yield 1
    finally:
        await asyncio.sleep(0)
        events.append('generator closed')

async def leave_things_behind():
    global loop, task, half_way, executor_thread
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(background())
    half_way = generator()
    assert await half_way.__anext__() == 1
    executor_thread = await loop.run_in_executor(None, threading.current_thread)
    assert executor_thread.is_alive()
",
    )?;
    Python::attach(|py| {
        let leave = code.get(py, "leave_things_behind")?.unbind();
        run(py, async move {
            let left = Python::attach(|py| into_future(leave.bind(py).call0()?))?;
            left.await.map(drop)
        })?;
        let events: Vec<String> = code.get(py, "events")?.extract()?;
        assert_eq!(events, ["background task cancelled", "generator closed"]);
        assert!(code.get(py, "loop")?.call_method0("is_closed")?.is_truthy()?);
        assert!(code.get(py, "task")?.call_method0("done")?.is_truthy()?);
        assert!(!code.get(py, "executor_thread")?.call_method0("is_alive")?.is_truthy()?);
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_loop_of_the_callers_runs_again_and_again() -> PyResult<()> {
    Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        for turn in 0..3 {
            let value = run_until_complete(&event_loop, async move { Ok(NotForPython(python(turn).await?)) })?;
            assert_eq!(value, NotForPython(turn));
        }
        let error = run_until_complete(&event_loop, async { Err::<(), _>(PyValueError::new_err("the error")) });
        assert_eq!(error.expect_err("it is raised").to_string(), "ValueError: the error");
        assert!(!event_loop.call_method0("is_closed")?.is_truthy()?);
        event_loop.call_method0("close").map(drop)
    })
}

/// Has a loop stopped when a future has ended, which may await Python.
fn stop_after<F>(py: Python<'_>, event_loop: &Bound<'_, PyAny>, future: F) -> PyResult<()>
where
    F: Future<Output = PyResult<()>> + Send + 'static,
{
    let locals = TaskLocals::new(event_loop)?;
    let runtime = current_runtime()?;
    let event_loop = event_loop.clone().unbind();
    // It is spawned without the interpreter, in case the runtime wants to be waited for.
    py.detach(|| {
        runtime.spawn(scope(locals, async move {
            let result = future.await;
            let stopped = Python::attach(|py| {
                let stop = event_loop.getattr(py, "stop")?;
                event_loop.call_method1(py, "call_soon_threadsafe", (stop,))
            });
            result.and(stopped.map(drop)).expect("the future gives no error, and the loop is not closed");
        }));
    });
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_loop_runs_until_it_is_stopped() -> PyResult<()> {
    Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        for turn in 0..3 {
            let done = Counter::new();
            let signal = done.clone();
            stop_after(py, &event_loop, async move {
                assert_eq!(python(turn).await?, turn);
                signal.add();
                Ok(())
            })?;
            run_forever(&event_loop)?;
            assert_eq!(done.get(), 1);
        }
        event_loop.call_method0("close").map(drop)
    })
}

/// Python code that awaits, and can be asked what came of it.
const KEEP: &CStr = c"
tasks = []

async def keep(make):
    tasks.append(asyncio.ensure_future(await_made(make)))

async def await_made(make):
    return await make()

async def turn():
    await asyncio.sleep(0)

async def results():
    return await asyncio.gather(*tasks)
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn what_ends_while_the_loop_is_stopped_is_delivered_when_it_runs_again() -> PyResult<()> {
    let code = Code::new(KEEP)?;
    let (started, opened, ended) = (Counter::new(), Counter::new(), Counter::new());
    Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        for number in 0..10 {
            let (signal, gate, guard) = (started.clone(), opened.clone(), ended.guard());
            let make = Way::ALL[number % 2 * 3].maker(async move {
                let _guard = guard;
                signal.add();
                gate.reached(1).await;
                Ok(number)
            })?;
            event_loop.call_method1("run_until_complete", (code.call(py, "keep", (make,))?,))?;
            event_loop.call_method1("run_until_complete", (code.call(py, "turn", ())?,))?;
        }
        py.detach(|| started.wait(10));
        opened.add();
        // The loop does not run, and the futures end. Other tests' tasks on the runtime may have to attach before.
        py.detach(|| ended.wait(10));
        let results = event_loop.call_method1("run_until_complete", (code.call(py, "results", ())?,))?;
        assert_eq!(results.extract::<Vec<usize>>()?, (0..10).collect::<Vec<_>>());
        event_loop.call_method0("close").map(drop)
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn two_loops_in_two_threads_share_the_runtime() -> PyResult<()> {
    const TURNS: usize = 200;

    let code = Arc::new(Code::new(
        c"
import threading

async def ident():
    await asyncio.sleep(0)
    return threading.get_ident()
",
    )?);
    let both = Arc::new(Barrier::new(2));
    let threads = [(); 2].map(|()| {
        let (code, both) = (Arc::clone(&code), Arc::clone(&both));
        thread::spawn(move || {
            let here = Python::attach(|py| py.import("threading")?.call_method0("get_ident")?.extract::<usize>())?;
            both.wait();
            let look = async move {
                let mut idents = Vec::new();
                for _ in 0..TURNS {
                    let ident = code.future("ident", ())?.await?;
                    idents.push(Python::attach(|py| ident.extract::<usize>(py))?);
                }
                Ok(idents)
            };
            let idents = Python::attach(|py| {
                let event_loop = new_event_loop(py)?;
                let idents = run_until_complete(&event_loop, look)?;
                event_loop.call_method0("close")?;
                PyResult::Ok(idents)
            })?;
            PyResult::Ok(idents == [here; TURNS])
        })
    });
    for thread in threads {
        assert!(thread.join().expect("it does not panic")?, "a coroutine ran on the other loop");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn two_loops_take_turns_in_one_thread() -> PyResult<()> {
    Python::attach(|py| {
        let loops = [new_event_loop(py)?, new_event_loop(py)?];
        for turn in 0..6 {
            let event_loop = &loops[turn % 2];
            let address = run_until_complete(event_loop, async {
                // It is asked for in the task, and where it runs.
                Ok((Python::attach(address_of_current_loop)?, on_loop(address_of_current_loop).await?))
            })?;
            assert_eq!(address, (event_loop.as_ptr() as usize, event_loop.as_ptr() as usize), "turn {turn}");
        }
        loops.iter().try_for_each(|event_loop| event_loop.call_method0("close").map(drop))
    })
}

fn address_of_current_loop(py: Python<'_>) -> PyResult<usize> {
    Ok(TaskLocals::current(py)?.event_loop(py)?.as_ptr() as usize)
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_run_inside_a_running_loop_is_an_error() -> PyResult<()> {
    let (polled, dropped) = (Counter::new(), Counter::new());
    for until_complete in [false, true] {
        let (signal, guard) = (polled.clone(), dropped.guard());
        let error = on_loop(move |py| {
            let future = async move {
                let _guard = guard;
                signal.add();
                Ok(())
            };
            // Python says that the coroutine, which it does not take, was never awaited.
            py.import("warnings")?
                .call_method1("simplefilter", ("ignore", py.get_type::<pyo3::exceptions::PyRuntimeWarning>()))?;
            let error = if until_complete {
                let event_loop = new_event_loop(py)?;
                let result = run_until_complete(&event_loop, future);
                event_loop.call_method0("close")?;
                result.expect_err("another loop runs")
            } else {
                run(py, future).expect_err("another loop runs")
            };
            assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}");
            Ok(error.to_string())
        })
        .await?;
        assert!(error.contains("running"), "{error}");
    }
    dropped.reached(2).await;
    assert_eq!(polled.get(), 0);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_loop_is_run_by_who_has_attached_in_its_context() -> PyResult<()> {
    let (event_loop, locals) = Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        PyResult::Ok((event_loop.clone().unbind(), TaskLocals::new(&event_loop)?))
    })?;
    let seven = locals.attach(|py| run_until_complete(event_loop.bind(py), async { python(7).await }))?;
    assert_eq!(seven, 7);
    Python::attach(|py| event_loop.call_method0(py, "close").map(drop))
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_closed_loop_ends_what_is_in_flight() -> PyResult<()> {
    let code = Code::new(
        c"
async def wait(started):
    started()
    await asyncio.get_running_loop().create_future()

async def make_all(makes):
    global futures
    futures = [make() for make in makes]
    await asyncio.sleep(0)
",
    )?;
    let (awaited, polled, dropped) = (Counter::new(), Counter::new(), Counter::new());
    let (sender, outcome) = oneshot::channel();
    Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        silence(&event_loop)?;
        // Rust awaits Python …
        let locals = TaskLocals::new(&event_loop)?;
        let future = locals.into_future(code.call(py, "wait", (awaited.clone(),))?)?;
        current_runtime()?.spawn(async { drop(sender.send(future.await.map(drop))) });
        let waiting = awaited.clone();
        stop_after(py, &event_loop, async move {
            waiting.reached(1).await;
            Ok(())
        })?;
        run_forever(&event_loop)?;
        // … and Python awaits Rust.
        let (signal, guard) = (polled.clone(), dropped.guard());
        let make = Way::AsyncioFuture.maker(async move {
            let _guard = guard;
            signal.add();
            std::future::pending::<PyResult<()>>().await
        })?;
        event_loop.call_method1("run_until_complete", (code.call(py, "make_all", ((make,),))?,))?;
        py.detach(|| polled.wait(1));
        assert_eq!(dropped.get(), 0);
        event_loop.call_method0("close").map(drop)
    })?;
    let error = block_on(outcome).expect("the task ends by sending").expect_err("the loop is closed");
    assert!(error.to_string().contains("the event loop is closed"), "{error}");
    dropped.wait(1);
    Ok(())
}

/// A loop that cannot watch descriptors, as Windows' has it: a thread of the bridge's own wakes it.
const PROACTOR_LIKE: &CStr = c"
class ProactorLike(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_loop_that_watches_no_descriptors_is_woken_too() -> PyResult<()> {
    let code = Code::new(PROACTOR_LIKE)?;
    Python::attach(|py| {
        let event_loop = code.call(py, "ProactorLike", ())?;
        let sum = run_until_complete(&event_loop, async {
            let mut sum = 0;
            for number in 0..100 {
                sum += python(number).await?;
            }
            Ok(sum)
        })?;
        assert_eq!(sum, (0..100).sum::<usize>());
        event_loop.call_method0("close").map(drop)
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_future_that_is_cut_short_by_stop_is_an_error() -> PyResult<()> {
    Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        let (stopper, stopped) = mpsc::channel();
        stopper.send(event_loop.getattr("stop")?.unbind()).expect("it is received below");
        let result = run_until_complete(&event_loop, async move {
            let stop = stopped.recv().expect("it was sent");
            Python::attach(|py| {
                let event_loop = TaskLocals::current(py)?.event_loop(py)?;
                event_loop.call_method1("call_soon_threadsafe", (stop,)).map(drop)
            })?;
            std::future::pending::<PyResult<()>>().await
        });
        let error = result.expect_err("the loop is stopped");
        Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
        assert!(error.to_string().contains("stopped before"), "{error}");
        event_loop.call_method0("close").map(drop)
    })
}
