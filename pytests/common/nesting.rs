//! Rust that awaits Python that awaits Rust, and so on. What is written for a way is a row of the table in `ends`.

use std::{ffi::CStr, pin::pin, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use pyo3::{exceptions::PyValueError, prelude::*};
use pyo3_await_pytests::{Code, Counter, function};

use super::{ends::drive, way::Way};
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
    /// Those of the futures, in turn.
    ways: Vec<Way>,
    bottom: Bottom,
    /// How many coroutines have been left.
    left: Counter,
    /// How many futures have been dropped.
    dropped: Counter,
}

impl Shaft {
    fn new<F>(ways: &[Way], bottom: impl Fn(&Code) -> F + Send + Sync + 'static) -> PyResult<Arc<Self>>
    where
        F: Future<Output = PyResult<usize>> + Send + 'static,
    {
        let bottom = Box::new(move |code: &Code| bottom(code).boxed());
        let (code, ways) = (Code::new(HOP)?, ways.to_vec());
        Ok(Arc::new(Self { code, ways, bottom, left: Counter::new(), dropped: Counter::new() }))
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
            let way = self.ways[depth % self.ways.len()];
            way.convert(py, Arc::clone(&self).descend(depth)).map(Bound::unbind)
        })
    }
}

pub(super) fn fifty_deep(way: Way) -> PyResult<()> {
    let shaft = Shaft::new(&[way], |_| async { Ok(0) })?;
    let sum: usize = drive(&Code::new(HOP)?, "hop", (Arc::clone(&shaft).maker()?, DEPTH, shaft.left.clone()))?;
    assert_eq!(sum, 2 * DEPTH + 1);
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH + 1, DEPTH + 1));
    Ok(())
}

pub(super) fn an_error_comes_up_with_a_readable_traceback(way: Way) -> PyResult<()> {
    let code = Code::new(
        c"
import traceback

async def names(make, depth):
    try:
        await make(depth)
    except ValueError as error:
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
",
    )?;
    let shaft = Shaft::new(&[way], |code| {
        let future = code.future("fail", (PyValueError::new_err("at the bottom"),));
        async move { future?.await.map(|_| 0) }
    })?;
    let names: Vec<String> = drive(&code, "names", (Arc::clone(&shaft).maker()?, DEPTH))?;
    // Each coroutine has a line, the outermost first, and nothing else has.
    let mut expected = vec!["names"];
    expected.resize(DEPTH + 1, "hop");
    expected.push("fail");
    assert_eq!(names, expected);
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH, DEPTH + 1));
    Ok(())
}

pub(super) fn a_cancellation_goes_to_the_bottom(way: Way) -> PyResult<()> {
    let code = Code::new(
        c"
async def cancel(make, depth, bottom):
    task = asyncio.ensure_future(await_made(make, depth))
    while not bottom.get():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()

async def await_made(make, depth):
    return await make(depth)
",
    )?;
    let bottom = Counter::new();
    let shaft = waiting(&[way], &bottom)?;
    assert!(drive::<_, bool>(&code, "cancel", (Arc::clone(&shaft).maker()?, DEPTH, bottom))?);
    // A coroutine that is cancelled is left at its own time: whoever awaits it does not wait for that.
    shaft.left.wait(DEPTH);
    shaft.dropped.wait(DEPTH + 1);
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH, DEPTH + 1));
    Ok(())
}

/// A shaft at whose bottom Python waits for ever, from when `bottom` counts it.
fn waiting(ways: &[Way], bottom: &Counter) -> PyResult<Arc<Shaft>> {
    let bottom = bottom.clone();
    Shaft::new(ways, move |code| {
        let future = code.future("wait", (bottom.clone(),));
        async move { future?.await.map(|_| 0) }
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn fifty_deep_in_all_ways() -> PyResult<()> {
    let shaft = Shaft::new(&Way::ALL, |_| async { Ok(0) })?;
    assert_eq!(Arc::clone(&shaft).descend(DEPTH).await?, 2 * DEPTH);
    assert_eq!((shaft.left.get(), shaft.dropped.get()), (DEPTH, DEPTH + 1));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_error_comes_up() -> PyResult<()> {
    let raised = PyValueError::new_err("at the bottom");
    let object = Python::attach(|py| raised.value(py).clone().unbind());
    let at_bottom = Python::attach(|py| object.clone_ref(py));
    let shaft = Shaft::new(&Way::ALL, move |code| {
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
    let shaft = waiting(&Way::ALL, &bottom)?;
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
