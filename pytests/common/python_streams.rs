//! Python asynchronous iterables that Rust has as streams.

use std::{ffi::CStr, pin::Pin, task::Context, thread};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all, poll, task::noop_waker_ref};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
};
use pyo3_await_pytests::{Code, Counter, random::Random, turn};

use super::event_loops::new_event_loop;
use crate::adapter::{self, PythonStream, TaskLocals, into_stream};

/// A stream of what a Python function returns.
fn stream_of(
    code: &Code,
    function: &str,
    arguments: impl for<'py> pyo3::call::PyCallArgs<'py>,
) -> PyResult<PythonStream> {
    Python::attach(|py| into_stream(code.call(py, function, arguments)?))
}

/// All its items.
async fn numbers(stream: PythonStream) -> PyResult<Vec<usize>> {
    let items: Vec<Py<PyAny>> = stream.try_collect().await?;
    Python::attach(|py| items.into_iter().map(|item| item.extract(py)).collect())
}

const COUNT: &CStr = c"
async def count(number):
    for index in range(number):
        yield index

async def count_slowly(number):
    for index in range(number):
        if index % 7 == 0:
            await asyncio.sleep(0)
        yield index

class Count:
    def __init__(self, number):
        self.indices = iter(range(number))
    def __aiter__(self):
        return self
    async def __anext__(self):
        for index in self.indices:
            await asyncio.sleep(0)
            return index
        raise StopAsyncIteration

class Iterable:
    def __init__(self, number):
        self.number = number
    def __aiter__(self):
        return count(self.number)
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn items_come_completely_and_in_order() -> PyResult<()> {
    let code = Code::new(COUNT)?;
    for kind in ["count", "count_slowly", "Count", "Iterable"] {
        for number in [0, 1, 1_000] {
            let items = numbers(stream_of(&code, kind, (number,))?).await?;
            assert!(items.into_iter().eq(0..number), "{kind}");
            let items = numbers(stream_of(&code, kind, (number,))?.with_capacity(1)).await?;
            assert!(items.into_iter().eq(0..number), "{kind}, one at a time");
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_exception_is_the_last_item() -> PyResult<()> {
    let code = Code::new(
        c"
async def fail(error, slowly):
    yield 1
    yield 2
    if slowly:
        await asyncio.sleep(0)
    raise error

class Failing:
    def __init__(self, error, _):
        self.error = error
    def __aiter__(self):
        raise self.error
",
    )?;
    for (function, slowly, before) in [("fail", false, 2), ("fail", true, 2), ("Failing", false, 0)] {
        let error = Python::attach(|py| PyValueError::new_err("the error").into_value(py));
        let mut stream = stream_of(&code, function, (&error, slowly))?;
        for _ in 0..before {
            stream.next().await.expect("it is an item")?;
        }
        let raised = stream.next().await.expect("it is an item").expect_err("it is raised");
        Python::attach(|py| assert!(raised.value(py).is(&error), "{raised}"));
        assert!(stream.next().await.is_none());
        assert!(stream.next().await.is_none());
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_is_no_iterable_is_refused() -> PyResult<()> {
    Python::attach(|py| {
        let error = into_stream(py.None().into_bound(py)).expect_err("it is None");
        assert!(error.is_instance_of::<PyTypeError>(py), "{error}");
        let message = error.value(py).to_string();
        assert!(message.starts_with("'NoneType' object is not an asynchronous iterable"), "{message}");
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_iterator_that_is_none_is_an_error() -> PyResult<()> {
    let code = Code::new(
        c"
class Wrong:
    def __aiter__(self):
        return 42

class Unawaitable:
    def __aiter__(self):
        return self
    def __anext__(self):
        return 42
",
    )?;
    for (kind, expected) in [("Wrong", "does not implement __anext__: int"), ("Unawaitable", "object int can't be")] {
        let mut stream = stream_of(&code, kind, ())?;
        let error = stream.next().await.expect("it is an item").expect_err("it is an error");
        Python::attach(|py| assert!(error.is_instance_of::<PyTypeError>(py), "{error}"));
        assert!(error.to_string().contains(expected), "{error}");
        assert!(stream.next().await.is_none());
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn nothing_happens_before_the_first_poll() -> PyResult<()> {
    let code = Code::new(
        c"
async def say(started):
    started()
    yield

async def turn():
    pass
",
    )?;
    let started = Counter::new();
    let stream = stream_of(&code, "say", (started.clone(),))?;
    // Whatever it had sent to the event loop would have come before this.
    code.future("turn", ())?.await?;
    assert_eq!(started.get(), 0);
    drop(stream);
    code.future("turn", ())?.await?;
    assert_eq!(started.get(), 0);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_iterable_is_ahead_by_no_more_than_the_capacity() -> PyResult<()> {
    const ITEMS: usize = 40;

    let code = Code::new(
        c"
async def count(number, yielded, suspends):
    for index in range(number):
        if suspends:
            await asyncio.sleep(0)
        # Between this and the yield nobody else runs.
        yielded()
        yield index

async def turns():
    for _ in range(10):
        await asyncio.sleep(0)
",
    )?;
    for suspends in [false, true] {
        for capacity in [1, 2, 3, 8] {
            let yielded = Counter::new();
            let mut stream = stream_of(&code, "count", (ITEMS, yielded.clone(), suspends))?.with_capacity(capacity);
            let mut consumed = 0;
            while let Some(item) = stream.next().await {
                item?;
                consumed += 1;
                // It comes at least half as far as it may, and then it stays.
                yielded.reached(ITEMS.min(consumed + capacity.div_ceil(2))).await;
                code.future("turns", ())?.await?;
                let ahead = yielded.get() - consumed;
                assert!(ahead <= capacity, "{ahead} items ahead, with a capacity of {capacity}");
            }
            assert_eq!((consumed, yielded.get()), (ITEMS, ITEMS));
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_generator_that_does_not_suspend_leaves_the_loop_to_others() -> PyResult<()> {
    let code = Code::new(
        c"
async def endless(stop):
    while not stop.get():
        yield

async def call(stop):
    stop()
",
    )?;
    let stop = Counter::new();
    // Not the buffer is the reason to wait.
    let mut stream = stream_of(&code, "endless", (stop.clone(),))?.with_capacity(usize::MAX);
    stream.next().await.expect("it is an item")?;
    let call = code.future("call", (stop,))?;
    let consume = async {
        while let Some(item) = stream.next().await {
            item?;
        }
        PyResult::Ok(())
    };
    let (called, consumed) = futures::join!(call, consume);
    consumed?;
    called.map(drop)
}

const CLEAN_UP: &CStr = c"
async def at_a_yield(started, ended, cleaned_up):
    try:
        started()
        while True:
            yield
    finally:
        ended()
        # The clean-up may wait, and nobody cancels that.
        for _ in range(3):
            await asyncio.sleep(0)
        cleaned_up()

async def at_an_await(started, ended, cleaned_up):
    try:
        yield
        started()
        await asyncio.sleep(3600)
        yield
    finally:
        ended()
        for _ in range(3):
            await asyncio.sleep(0)
        cleaned_up()

# What catches the cancellation is closed all the same.
async def stubborn(started, ended, cleaned_up):
    try:
        yield
        started()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
        while True:
            yield
    finally:
        ended()
        for _ in range(3):
            await asyncio.sleep(0)
        cleaned_up()

# An iterator that is no generator.
class Closeable:
    def __init__(self, started, ended, cleaned_up):
        self.started, self.ended, self.cleaned_up = started, ended, cleaned_up
    def __aiter__(self):
        return self
    async def __anext__(self):
        self.started()
        await asyncio.sleep(0)
    async def aclose(self):
        self.ended()
        await asyncio.sleep(0)
        self.cleaned_up()
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_stream_that_is_dropped_closes_its_iterator() -> PyResult<()> {
    let code = Code::new(CLEAN_UP)?;
    for kind in ["at_a_yield", "at_an_await", "stubborn", "Closeable"] {
        for capacity in [1, 1_000] {
            for on_thread in [false, true] {
                let (started, cleaned_up) = (Counter::new(), Counter::new());
                let stream = stream_of(&code, kind, (started.clone(), Counter::new(), cleaned_up.clone()))?;
                let mut stream = stream.with_capacity(capacity);
                stream.next().await.expect("it is an item")?;
                if started.get() == 0 {
                    // It is at its await, or will be.
                    assert!(poll!(stream.next()).is_pending());
                    started.reached(1).await;
                }
                assert_eq!(cleaned_up.get(), 0, "{kind}");
                if on_thread {
                    thread::spawn(move || drop(stream)).join().expect("it does not panic");
                } else {
                    drop(stream);
                }
                cleaned_up.reached(1).await;
                assert_eq!(cleaned_up.get(), 1, "{kind}");
            }
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn an_event_loop_that_ends_closes_the_iterator() -> PyResult<()> {
    let code = Code::new(CLEAN_UP)?;
    for kind in ["at_a_yield", "at_an_await", "stubborn", "Closeable"] {
        for kept in [false, true] {
            if kept && kind == "stubborn" {
                // A task that ignores its cancellation keeps the loop from ending, in Python too.
                continue;
            }
            let (started, ended, cleaned_up) = (Counter::new(), Counter::new(), Counter::new());
            let iterable = Python::attach(|py| {
                let iterable = code.call(py, kind, (started.clone(), ended.clone(), cleaned_up.clone()))?;
                PyResult::Ok(iterable.unbind())
            })?;
            let stream = Python::attach(|py| {
                // It ends right after the future, with all that is left cancelled.
                adapter::run(py, async move {
                    let mut stream = Python::attach(|py| into_stream(iterable.into_bound(py)))?;
                    stream.next().await.expect("it is an item")?;
                    if started.get() == 0 {
                        assert!(poll!(stream.next()).is_pending());
                        started.reached(1).await;
                    }
                    Ok(kept.then_some(stream))
                })
            })?;
            // A clean-up that has begun when the loop ends is cancelled by that, as it is with every task.
            assert_eq!(ended.get(), 1, "{kind}, kept: {kept}");
            assert!(!kept || cleaned_up.get() == 1, "{kind}");
            if let Some(mut stream) = stream {
                // The items, and how it ended.
                let last = futures::executor::block_on(async {
                    let mut last = None;
                    while let Some(item) = stream.next().await {
                        last = Some(item);
                    }
                    last
                });
                let error = last.expect("there was an item").expect_err("it was cancelled");
                Python::attach(|py| {
                    let class = py.import("asyncio")?.getattr("CancelledError")?;
                    assert!(error.matches(py, class)?, "{kind}: {error}");
                    PyResult::Ok(())
                })?;
            }
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_closed_event_loop_is_an_error() -> PyResult<()> {
    let code = Code::new(COUNT)?;
    let (mut never_started, mut started) = Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        event_loop.call_method1("set_exception_handler", (py.eval(c"lambda *_: None", None, None)?,))?;
        let locals = TaskLocals::new(&event_loop)?;
        let stream = || locals.into_stream(code.call(py, "count_slowly", (1_000,))?);
        let (never_started, mut started) = (stream()?, stream()?);
        let cx = &mut Context::from_waker(noop_waker_ref());
        assert!(Pin::new(&mut started).poll_next_unpin(cx).is_pending());
        let turn = py.import("asyncio")?.call_method1("sleep", (0,))?;
        event_loop.call_method1("run_until_complete", (turn,))?;
        event_loop.call_method0("close")?;
        PyResult::Ok((never_started, started))
    })?;
    for stream in [&mut never_started, &mut started] {
        let last = futures::executor::block_on(async {
            let mut last = None;
            while let Some(item) = stream.next().await {
                last = Some(item);
            }
            last
        });
        let error = last.expect("there is an item").expect_err("the loop is closed");
        Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
        assert!(error.to_string().contains("the event loop is closed"), "{error}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_iterable_runs_in_a_task_with_the_consumers_context() -> PyResult<()> {
    let code = Code::new(
        c"
import contextvars

variable = contextvars.ContextVar('variable', default='unset')

async def look(consumer):
    tasks = set()
    for turn in range(100):
        tasks.add(asyncio.current_task())
        if turn % 10 == 0:
            # It needs a task that can be cancelled.
            try:
                await asyncio.wait_for(asyncio.sleep(3600), 0.001)
            except asyncio.TimeoutError:
                pass
        yield variable.get()
    yield len(tasks)

async def scope(start):
    variable.set('the consumer')
    return await start()
",
    )?;
    let code = std::sync::Arc::new(code);
    let shared = std::sync::Arc::clone(&code);
    let start = super::way::maker(move |py| {
        adapter::into_coroutine(py, async move {
            let stream = stream_of(&shared, "look", (0,))?;
            let items: Vec<Py<PyAny>> = stream.try_collect().await?;
            Ok(items)
        })
    })?;
    let items = code.future("scope", (start,))?.await?;
    Python::attach(|py| {
        let items: Vec<Bound<'_, PyAny>> = items.extract(py)?;
        let (tasks, values) = items.split_last().expect("there are items");
        assert_eq!(tasks.extract::<usize>()?, 1);
        assert_eq!(values.len(), 100);
        for value in values {
            assert_eq!(value.extract::<String>()?, "the consumer");
        }
        Ok(())
    })
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn any_thread_may_poll_it() -> PyResult<()> {
    let code = Code::new(COUNT)?;
    let stream = stream_of(&code, "count_slowly", (1_000,))?;
    let thread = thread::spawn(|| futures::executor::block_on(numbers(stream)));
    while !thread.is_finished() {
        turn().await;
    }
    assert!(thread.join().expect("it does not panic")?.into_iter().eq(0..1_000));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn a_thousand_streams_run_at_once() -> PyResult<()> {
    const STREAMS: usize = 1_000;

    let code = Code::new(COUNT)?;
    let streams = (0..STREAMS).map(|_| stream_of(&code, "count_slowly", (20,))).collect::<PyResult<Vec<_>>>()?;
    for items in join_all(streams.into_iter().map(numbers)).await {
        assert!(items?.into_iter().eq(0..20));
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "600s")]
async fn of_a_million_items_few_are_alive_at_a_time() -> PyResult<()> {
    const ITEMS: usize = 1_000_000;
    const CAPACITY: usize = 64;

    let code = Code::new(
        c"
import threading

living = most = 0
lock = threading.Lock()

class Item:
    __slots__ = ()
    def __init__(self):
        global living, most
        with lock:
            living += 1
            most = max(most, living)
    def __del__(self):
        global living
        with lock:
            living -= 1

async def make(number):
    for _ in range(number):
        yield Item()
",
    )?;
    let stream = stream_of(&code, "make", (ITEMS,))?.with_capacity(CAPACITY);
    let mut chunks = stream.ready_chunks(CAPACITY);
    let mut count = 0;
    while let Some(chunk) = chunks.next().await {
        count += chunk.len();
        // They are released here, and not when somebody else attaches.
        Python::attach(|_| drop(chunk));
    }
    assert_eq!(count, ITEMS);
    let (living, most): (isize, isize) =
        Python::attach(|py| Ok::<_, PyErr>((code.get(py, "living")?.extract()?, code.get(py, "most")?.extract()?)))?;
    assert_eq!(living, 0);
    // Those in the buffer, those in the chunk, and the one that is yielded.
    let expected = isize::try_from(2 * CAPACITY + 2).expect("it is small");
    assert!(most <= expected, "{most} items were alive at the same time");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn streams_that_are_dropped_at_any_time_clean_up() -> PyResult<()> {
    const STREAMS: usize = 200;

    let code = Code::new(
        c"
async def count(turns, begun, cleaned_up):
    begun()
    try:
        for index, turn in enumerate(turns):
            for _ in range(turn):
                await asyncio.sleep(0)
            yield index
    finally:
        # It may be cancelled when it is here already.
        try:
            await asyncio.sleep(0)
        finally:
            cleaned_up()
",
    )?;
    for seed in 0..3 {
        let mut random = Random::new(seed);
        let (begun, cleaned_up) = (Counter::new(), Counter::new());
        let consume = |mut random: Random| {
            let turns: Vec<usize> = (0..random.below(50)).map(|_| random.below(3)).collect();
            let (items, wait) = (random.below(50), random.below(10));
            let capacity = 1 + random.below(8);
            let stream = stream_of(&code, "count", (turns, begun.clone(), cleaned_up.clone()));
            async move {
                let mut stream = stream?.with_capacity(capacity);
                for expected in 0..items {
                    let Some(item) = stream.next().await else { return PyResult::Ok(()) };
                    let item = item?;
                    assert_eq!(Python::attach(|py| item.extract::<usize>(py))?, expected);
                }
                for _ in 0..wait {
                    if let std::task::Poll::Ready(None) = poll!(stream.next()) {
                        return Ok(());
                    }
                    turn().await;
                }
                Ok(())
            }
        };
        let consumers: Vec<_> = (0..STREAMS).map(|_| consume(Random::new(random.below(1 << 30) as u64))).collect();
        for consumed in join_all(consumers).await {
            consumed?;
        }
        // All that have begun clean up; the others never begin.
        let settled = Counter::new();
        code.run(c"async def turn(): pass")?;
        // Whatever is about to begin has begun then.
        code.future("turn", ())?.await?;
        while cleaned_up.get() < begun.get() {
            code.future("turn", ())?.await?;
            settled.add();
        }
        assert!(begun.get() > 0, "seed {seed}");
        assert_eq!(cleaned_up.get(), begun.get(), "seed {seed}");
    }
    Ok(())
}
