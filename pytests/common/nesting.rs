//! Rust that awaits Python that awaits Rust, and so on.

use std::{ffi::CStr, pin::pin, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use pyo3::{exceptions::PyValueError, prelude::*};
use pyo3_await_pytests::{Code, Counter, function};

use super::way::Way;
use crate::adapter;

const DEPTH: usize = 50;

const HOP: &CStr = c"
async def hop(make, depth, left):
    try:
        return await make(depth) + 1
    finally:
        left()

async def wait(bottom):
    bottom()
    await asyncio.get_running_loop().create_future()

async def fail(error):
    await asyncio.sleep(0)
    raise error
";

type Bottom = Box<dyn Fn(&Code) -> BoxFuture<'static, PyResult<usize>> + Send + Sync>;

/// A shaft of that many Python coroutines and Rust futures in turn, with something at its bottom.
struct Shaft {
    code: Code,
    bottom: Bottom,
    /// How many coroutines have been left.
    left: Counter,
    /// How many futures have been dropped.
    dropped: Counter,
}

impl Shaft {
    fn new<F>(bottom: impl Fn(&Code) -> F + Send + Sync + 'static) -> PyResult<Arc<Self>>
    where
        F: Future<Output = PyResult<usize>> + Send + 'static,
    {
        let bottom = Box::new(move |code: &Code| bottom(code).boxed());
        Ok(Arc::new(Self { code: Code::new(HOP)?, bottom, left: Counter::new(), dropped: Counter::new() }))
    }

    /// The Rust future at a depth.
    fn descend(self: Arc<Self>, depth: usize) -> BoxFuture<'static, PyResult<usize>> {
        let guard = self.dropped.guard();
        let future = async move {
            let _guard = guard;
            if depth == 0 {
                return (self.bottom)(&self.code).await;
            }
            let make = Arc::clone(&self).maker()?;
            let value = self.code.future("hop", (make, depth - 1, self.left.clone()))?.await?;
            Ok(Python::attach(|py| value.extract::<usize>(py))? + 1)
        };
        future.boxed()
    }

    /// A Python function of a depth that makes an awaitable of the Rust future there.
    fn maker(self: Arc<Self>) -> PyResult<Py<PyAny>> {
        function(move |py, arguments| {
            let depth: usize = arguments.get_item(0)?.extract()?;
            let way = Way::ALL[depth % Way::ALL.len()];
            way.convert(py, Arc::clone(&self).descend(depth)).map(Bound::unbind)
        })
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn fifty_deep() -> PyResult<()> {
    let shaft = Shaft::new(|_| async { Ok(0) })?;
    assert_eq!(Arc::clone(&shaft).descend(DEPTH).await?, 2 * DEPTH);
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH, DEPTH + 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_error_comes_up() -> PyResult<()> {
    let raised = PyValueError::new_err("at the bottom");
    let object = Python::attach(|py| raised.value(py).clone().unbind());
    let at_bottom = Python::attach(|py| object.clone_ref(py));
    let shaft = Shaft::new(move |code| {
        let future = code.future("fail", (&at_bottom,));
        async move { future?.await.map(|_| 0) }
    })?;
    let error = Arc::clone(&shaft).descend(DEPTH).await.expect_err("it is raised");
    Python::attach(|py| assert!(error.value(py).is(&object), "{error}"));
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH, DEPTH + 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_drop_at_the_top_cancels_all() -> PyResult<()> {
    let bottom = Counter::new();
    let signal = bottom.clone();
    let shaft = Shaft::new(move |code| {
        let future = code.future("wait", (signal.clone(),));
        async move { future?.await.map(|_| 0) }
    })?;
    let future = Arc::clone(&shaft).descend(DEPTH);
    match select(future, pin!(bottom.reached(1))).await {
        Either::Left((result, _)) => panic!("it has ended: {result:?}"),
        Either::Right(((), future)) => drop(future),
    }
    shaft.left.reached(DEPTH).await;
    shaft.dropped.reached(DEPTH + 1).await;
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH, DEPTH + 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_cancellation_in_python_goes_to_the_bottom() -> PyResult<()> {
    let bottom = Counter::new();
    let signal = bottom.clone();
    let shaft = Shaft::new(move |code| {
        let future = code.future("wait", (signal.clone(),));
        async move { future?.await.map(|_| 0) }
    })?;
    let code = Code::new(
        c"
async def cancel(make, depth, bottom):
    task = asyncio.ensure_future(await_made(make, depth))
    await bottom()
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()

async def await_made(make, depth):
    return await make(depth)
",
    )?;
    let reached = function(move |py, _| {
        let bottom = bottom.clone();
        let reached = async move {
            bottom.reached(1).await;
            Ok(())
        };
        Way::Coroutine.convert(py, reached).map(Bound::unbind)
    })?;
    let cancelled = code.future("cancel", (Arc::clone(&shaft).maker()?, DEPTH, reached))?.await?;
    assert!(Python::attach(|py| cancelled.is_truthy(py))?);
    // A coroutine that is cancelled is left at its own time: whoever awaits it does not wait for that.
    shaft.left.reached(DEPTH).await;
    shaft.dropped.reached(DEPTH + 1).await;
    Ok(())
}
