//! The interpreter, and threads that have to do without it.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter, Subject as _, on_loop};

use crate::{
    Subject,
    adapter::{self, Runtime, RuntimeExt as _, TaskLocals},
};

/// How long the interpreter is kept from everybody else, at least.
const HELD: Duration = Duration::from_millis(200);

/// How long a worker may take for anything, on any machine.
const LIMIT: Duration = Duration::from_secs(20);

/// What the event loop has been told of.
const COUNT: &std::ffi::CStr = c"
delivered = 0

def count(_):
    global delivered
    delivered += 1

async def start(make, number):
    global futures
    futures = [make() for _ in range(number)]
    for future in futures:
        future.add_done_callback(count)

async def finish():
    await asyncio.wait(futures)
    return delivered
";

/// Has a task of the runtime answer.
fn ping(runtime: &impl Runtime) -> Result<(), mpsc::RecvTimeoutError> {
    let (answer, answered) = mpsc::channel();
    runtime.spawn(async move {
        let _ = answer.send(());
    });
    answered.recv_timeout(LIMIT)
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn workers_never_wait_for_it() -> PyResult<()> {
    const FUTURES: usize = 1_000;

    // No other test's tasks are on this runtime, which may attach for their own purposes.
    let runtime = Subject::own("no-interpreter");
    let code = Code::new(COUNT)?;
    let (opened, started, ended) = (Counter::new(), Counter::new(), Counter::new());
    let make = {
        let (runtime, opened, started, ended) =
            (Clone::clone(&runtime), opened.clone(), started.clone(), ended.clone());
        pyo3_await_pytests::function(move |py, _| {
            let (gate, signal, guard) = (opened.clone(), started.clone(), ended.guard());
            // The output is a Python object: to let go of it has to wait for the interpreter, but not here.
            let value = py.eval(c"object()", None, None)?.unbind();
            let future = async move {
                let _guard = guard;
                signal.add();
                gate.reached(1).await;
                Ok(value)
            };
            runtime.into_asyncio_future(py, future).map(Bound::unbind)
        })?
    };
    code.future("start", (make, FUTURES))?.await?;
    started.reached(FUTURES).await;

    let (sender, held) = futures::channel::oneshot::channel();
    let counters = (opened.clone(), ended.clone());
    let delivered = Python::attach(|py| code.get(py, "count").map(Bound::unbind))?;
    // This thread is attached all the time: a worker that had to be, too, would wait for it.
    thread::spawn(move || {
        let seen = Python::attach(|py| {
            let begun = Instant::now();
            let (opened, ended) = counters;
            opened.add();
            let mut pings = 0;
            while ended.get() < FUTURES || pings < 2 || begun.elapsed() < HELD {
                if ping(&runtime).is_err() || begun.elapsed() > LIMIT {
                    break;
                }
                pings += 1;
                thread::sleep(Duration::from_millis(1));
            }
            let delivered = delivered.getattr(py, "__globals__")?.bind(py).get_item("delivered")?.extract::<usize>()?;
            PyResult::Ok((ended.get(), pings > 1, begun.elapsed() < LIMIT, delivered))
        });
        let _ = sender.send(seen);
    });
    let seen = held.await.expect("the thread ends by sending")?;
    let (ended, answered, in_time, delivered) = seen;
    assert_eq!((ended, answered, in_time), (FUTURES, true, true));
    // Nothing was, where one thread that is attached keeps all others out.
    assert!(cfg!(Py_GIL_DISABLED) || delivered == 0, "{delivered}");
    let delivered = code.future("finish", ())?.await?;
    assert_eq!(Python::attach(|py| delivered.extract::<usize>(py))?, FUTURES);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn a_dropped_future_does_not_wait_for_it() -> PyResult<()> {
    let code = Code::new(
        c"
async def wait(started, ended):
    started()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended()

class Unused:
    def __await__(self):
        yield
",
    )?;
    let runtime = Subject::own("no-interpreter");
    let (started, ended, opened, dropped) = (Counter::new(), Counter::new(), Counter::new(), Counter::new());
    let locals = Python::attach(TaskLocals::current)?;
    let call = Python::attach(|py| locals.into_future(code.call(py, "wait", (started.clone(), ended.clone()))?))?;
    let unused = Python::attach(|py| locals.into_future(code.call(py, "Unused", ())?))?;
    let (gate, guard) = (opened.clone(), dropped.guard());
    runtime.spawn(async move {
        futures::future::select(call, std::pin::pin!(gate.reached(1))).await;
        drop(unused);
        drop(guard);
    });
    started.reached(1).await;

    let (sender, held) = futures::channel::oneshot::channel();
    let signal = dropped.clone();
    thread::spawn(move || {
        let in_time = Python::attach(|_| {
            opened.add();
            let begun = Instant::now();
            while signal.get() == 0 && begun.elapsed() < LIMIT {
                thread::yield_now();
            }
            signal.get() == 1
        });
        let _ = sender.send(in_time);
    });
    assert!(held.await.expect("the thread ends by sending"), "the worker waits for the interpreter");
    ended.reached(1).await;
    on_loop(|_| Ok(())).await
}
