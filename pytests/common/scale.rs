//! Many futures at once.

use futures::future::join_all;
use pyo3::prelude::*;
use pyo3_await_pytests::{Code, Counter, Subject as _, function};

use super::way::Way;
use crate::{Subject, adapter};

const MANY: usize = Subject::MANY;

#[pyo3_await::test(crate = adapter, timeout = "180s")]
async fn many_rust_futures_are_pending_at_once() -> PyResult<()> {
    let code = Code::new(
        c"
async def start(make, number):
    global futures
    futures = [asyncio.ensure_future(make(index)) for index in range(number)]

async def pending():
    return sum(not future.done() for future in futures)

async def results():
    return await asyncio.gather(*futures)
",
    )?;
    for way in [Way::Coroutine, Way::AsyncioFuture] {
        let (opened, started, dropped) = (Counter::new(), Counter::new(), Counter::new());
        let make = {
            let (opened, started, dropped) = (opened.clone(), started.clone(), dropped.clone());
            function(move |py, arguments| {
                let index: usize = arguments.get_item(0)?.extract()?;
                let (gate, signal, guard) = (opened.clone(), started.clone(), dropped.guard());
                let future = async move {
                    let _guard = guard;
                    signal.add();
                    gate.reached(1).await;
                    Ok(index)
                };
                way.convert(py, future).map(Bound::unbind)
            })?
        };
        code.future("start", (make, MANY))?.await?;
        started.reached(MANY).await;
        let pending = code.future("pending", ())?.await?;
        assert_eq!(Python::attach(|py| pending.extract::<usize>(py))?, MANY, "{way:?}");
        assert_eq!(dropped.get(), 0, "{way:?}");
        opened.add();
        let results = code.future("results", ())?.await?;
        let results: Vec<usize> = Python::attach(|py| results.extract(py))?;
        assert!(results.into_iter().eq(0..MANY), "{way:?}");
        assert_eq!((started.get(), dropped.get()), (MANY, MANY), "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "180s")]
async fn many_python_coroutines_are_pending_at_once() -> PyResult<()> {
    let code = Code::new(
        c"
gate = Gate()

async def wait(index, started):
    started()
    await gate.wait()
    return index
",
    )?;
    let started = Counter::new();
    let calls = Python::attach(|py| {
        let (wait, started) = (code.get(py, "wait")?, Bound::new(py, started.clone())?);
        let call = |index| adapter::into_future(wait.call1((index, &started))?);
        (0..MANY).map(call).collect::<PyResult<Vec<_>>>()
    })?;
    let open = async {
        started.reached(MANY).await;
        code.run(c"gate.open()")
    };
    let (results, opened) = futures::join!(join_all(calls), open);
    opened?;
    let results: Vec<usize> =
        Python::attach(|py| results.into_iter().map(|result| result?.extract::<usize>(py)).collect::<PyResult<_>>())?;
    assert!(results.into_iter().eq(0..MANY));
    Ok(())
}
