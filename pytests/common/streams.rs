//! Rust streams that Python iterates over.

use std::{
    convert::Infallible,
    ffi::CStr,
    marker::PhantomData,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{self, ThreadId},
    time::Duration,
};

use futures::{
    Stream, StreamExt as _,
    channel::{mpsc, oneshot},
    stream,
};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopAsyncIteration, PyTypeError, PyValueError},
    prelude::*,
    types::PyInt,
};
use pyo3_await_pytests::{Code, Counter, Guard, Subject as _, function, mortal::Mortal, on_loop, random::Random, turn};

use super::{
    event_loops::new_event_loop,
    way::{awaited, maker},
};
use crate::{
    Subject,
    adapter::{
        self, RuntimeExt as _, RustPanic, attach, current_runtime, into_async_iterator,
        into_async_iterator_with_capacity, into_future, into_local_async_iterator,
    },
};

/// Where a stream is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Runtime,
    EventLoop,
}

impl Place {
    const ALL: [Self; 2] = [Self::Runtime, Self::EventLoop];

    fn convert<S, T>(self, py: Python<'_>, stream: S) -> PyResult<Bound<'_, PyAny>>
    where
        S: Stream<Item = PyResult<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        match self {
            Self::Runtime => into_async_iterator(py, stream),
            Self::EventLoop => into_local_async_iterator(py, stream),
        }
    }

    /// A Python function that makes an iterator of the stream, once.
    fn maker<S, T>(self, stream: S) -> PyResult<Py<PyAny>>
    where
        S: Stream<Item = PyResult<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        maker(move |py| self.convert(py, stream))
    }
}

/// A stream that a test feeds, and what is seen of it.
#[derive(Debug)]
struct Fed {
    items: mpsc::UnboundedReceiver<PyResult<usize>>,
    /// How many items it has given.
    given: Counter,
    _dropped: Guard,
}

fn fed() -> (mpsc::UnboundedSender<PyResult<usize>>, Counter, Counter, Fed) {
    let ((feed, items), given, dropped) = (mpsc::unbounded(), Counter::new(), Counter::new());
    let stream = Fed { items, given: given.clone(), _dropped: dropped.guard() };
    (feed, given, dropped, stream)
}

impl Stream for Fed {
    type Item = PyResult<usize>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.items.poll_next_unpin(cx);
        if let Poll::Ready(Some(_)) = polled {
            self.given.add();
        }
        polled
    }
}

const COLLECT: &CStr = c"
import contextlib, collections.abc, gc

async def collect(make):
    return [item async for item in make()]

# The items before the exception, its representation, and what comes after it.
async def collect_until_error(make):
    iterator, items = make(), []
    try:
        async for item in iterator:
            items.append(item)
    except Exception as error:
        return items, error, await anext(iterator, 'the end')
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn items_come_completely_and_in_order() -> PyResult<()> {
    const MANY: usize = 10_000;

    let code = Code::new(COLLECT)?;
    for place in Place::ALL {
        let ready = place.maker(stream::iter(0..MANY).map(Ok))?;
        let waiting = place.maker(stream::iter(0..MANY).then(async |number| {
            if number % 100 == 0 {
                turn().await;
            }
            Ok(number)
        }))?;
        let empty = place.maker(stream::empty::<PyResult<usize>>())?;
        for (make, number) in [(ready, MANY), (waiting, MANY), (empty, 0)] {
            let items = code.future("collect", (make,))?.await?;
            let items: Vec<usize> = Python::attach(|py| items.extract(py))?;
            assert!(items.into_iter().eq(0..number), "{place:?}");
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_error_is_raised_once_and_is_the_end() -> PyResult<()> {
    let code = Code::new(COLLECT)?;
    for place in Place::ALL {
        let raised = PyValueError::new_err("the error");
        let object = Python::attach(|py| raised.value(py).clone().unbind());
        let make = place.maker(stream::iter([Ok(1), Ok(2), Err(raised), Ok(3)]))?;
        let outcome = code.future("collect_until_error", (make,))?.await?;
        Python::attach(|py| {
            let (items, error, end): (Vec<usize>, Py<PyAny>, String) = outcome.extract(py)?;
            assert_eq!(items, [1, 2], "{place:?}");
            assert!(error.is(&object), "{place:?}: {error}");
            assert_eq!(end, "the end", "{place:?}");
            PyResult::Ok(())
        })?;
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_would_look_like_the_end_is_an_error() -> PyResult<()> {
    let code = Code::new(COLLECT)?;
    for place in Place::ALL {
        let make = place.maker(stream::iter([Ok(1), Err(PyStopAsyncIteration::new_err("by mistake"))]))?;
        let outcome = code.future("collect_until_error", (make,))?.await?;
        Python::attach(|py| {
            let (items, error, _): (Vec<usize>, Bound<'_, PyAny>, String) = outcome.extract(py)?;
            assert_eq!(items, [1], "{place:?}");
            assert!(error.is_instance_of::<PyRuntimeError>(), "{place:?}: {error}");
            assert_eq!(error.to_string(), "async generator raised StopAsyncIteration", "{place:?}");
            let cause = error.getattr("__cause__")?;
            assert!(cause.is_instance_of::<PyStopAsyncIteration>(), "{place:?}: {cause}");
            PyResult::Ok(())
        })?;
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_panic_is_raised_and_is_the_end() -> PyResult<()> {
    let code = Code::new(COLLECT)?;
    for place in Place::ALL {
        let dropped = Counter::new();
        let guard = dropped.guard();
        let make = place.maker(stream::iter(1..4).map(move |number| {
            let _guard = &guard;
            assert!(number < 3, "the third item");
            Ok(number)
        }))?;
        let outcome = code.future("collect_until_error", (make,))?.await?;
        Python::attach(|py| {
            let (items, error, end): (Vec<usize>, Bound<'_, PyAny>, String) = outcome.extract(py)?;
            assert_eq!(items, [1, 2], "{place:?}");
            assert!(error.is_instance_of::<RustPanic>(), "{place:?}: {error}");
            assert!(error.to_string().contains("the third item"), "{place:?}: {error}");
            assert_eq!(end, "the end", "{place:?}");
            PyResult::Ok(())
        })?;
        dropped.reached(1).await;
    }
    Ok(())
}

/// An item whose conversion to Python fails, or panics.
struct Unconvertible {
    panics: bool,
}

impl<'py> IntoPyObject<'py> for Unconvertible {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, _: Python<'py>) -> PyResult<Self::Output> {
        assert!(!self.panics, "the conversion panicked");
        Err(PyTypeError::new_err("the conversion failed"))
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_conversion_that_fails_is_raised_and_is_the_end() -> PyResult<()> {
    let code = Code::new(COLLECT)?;
    for place in Place::ALL {
        for panics in [false, true] {
            let dropped = Counter::new();
            let guard = dropped.guard();
            let make = place.maker(stream::repeat_with(move || {
                let _guard = &guard;
                Ok(Unconvertible { panics })
            }))?;
            let outcome = code.future("collect_until_error", (make,))?.await?;
            Python::attach(|py| {
                let (_, error, end): (Vec<usize>, Bound<'_, PyAny>, String) = outcome.extract(py)?;
                assert!(error.to_string().contains("the conversion"), "{place:?}: {error}");
                assert_eq!(error.is_instance_of::<RustPanic>(), panics, "{place:?}: {error}");
                assert_eq!(end, "the end", "{place:?}");
                PyResult::Ok(())
            })?;
            dropped.reached(1).await;
        }
    }
    Ok(())
}

/// An item whose conversion fails, if it is the one.
struct Sometimes(usize);

impl Sometimes {
    const FAILS: usize = 20;
}

impl<'py> IntoPyObject<'py> for Sometimes {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        match self.0 {
            Self::FAILS => Err(PyTypeError::new_err("the conversion failed")),
            number => Ok(number.into_pyobject(py)?),
        }
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_conversion_that_fails_comes_after_the_items_before_it() -> PyResult<()> {
    let code = Code::new(COLLECT)?;
    for place in Place::ALL {
        let make = place.maker(stream::iter((0..100).map(Sometimes).map(Ok)))?;
        let outcome = code.future("collect_until_error", (make,))?.await?;
        Python::attach(|py| {
            let (items, error, end): (Vec<usize>, Bound<'_, PyAny>, String) = outcome.extract(py)?;
            assert!(items.into_iter().eq(0..Sometimes::FAILS), "{place:?}");
            assert!(error.to_string().contains("the conversion failed"), "{place:?}: {error}");
            assert_eq!(end, "the end", "{place:?}");
            PyResult::Ok(())
        })?;
    }
    Ok(())
}

/// However the awaitable is stepped, and whether the item is at hand then or not.
#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn items_that_look_like_arguments_or_exceptions_come_as_they_are() -> PyResult<()> {
    let code = Code::new(
        c"
import types

@types.coroutine
def by_next(awaitable):
    while True:
        try:
            yielded = awaitable.__next__()
        except StopIteration as stop:
            return stop.value
        yield yielded

@types.coroutine
def by_send(awaitable):
    while True:
        try:
            yielded = awaitable.send(None)
        except StopIteration as stop:
            return stop.value
        yield yielded

error = ValueError('raised')
items = [1, (), (1,), (1, 2), ((),), error, StopIteration(5), StopAsyncIteration(), (error,), ValueError, 'text'] * 5

async def check(make, way):
    iterator, found = make(list(items)), []
    for _ in items:
        awaitable = iterator.__anext__()
        found.append(await (way(awaitable) if way else awaitable))
    assert [item async for item in iterator] == []
    assert len(found) == len(items)
    assert all(one is other for one, other in zip(found, items)), found

async def check_all(make):
    for way in None, by_next, by_send:
        await check(make, way)
    assert [item async for item in make(items)] == items
",
    )?;
    for place in Place::ALL {
        let make = function(move |py, arguments| {
            let items: Vec<Py<PyAny>> = arguments.get_item(0)?.extract()?;
            place.convert(py, stream::iter(items.into_iter().map(Ok))).map(Bound::unbind)
        })?;
        code.future("check_all", (make,))?.await?;
    }
    Ok(())
}

/// Several are taken at a time, and are Python objects then, before they are asked for.
#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn items_that_nobody_asks_for_are_released() -> PyResult<()> {
    let code = Code::new(
        c"
import gc, weakref

class Item:
    pass

async def leave(make, feed, fed, end):
    item, iterator = Item(), make()
    feed(item, 1)
    await anext(iterator)
    feed(item, 7)
    while fed.get() < 8:
        await asyncio.sleep(0)
    await anext(iterator)
    # What is at hand refers to the iterator.
    item.iterator = iterator
    left, item = weakref.ref(item), None
    assert left() is not None
    if end == 'aclose':
        left().iterator = None
        await iterator.aclose()
    elif end == 'drop':
        left().iterator = iterator = None
    else:
        iterator = None
        assert left() is not None
        gc.collect()
    return left() is None
",
    )?;
    for end in ["aclose", "drop", "collect"] {
        let (sender, mut receiver) = mpsc::unbounded::<Py<PyAny>>();
        let fed = Counter::new();
        let signal = fed.clone();
        // An item is counted by a poll that comes after it, when it is in the buffer.
        let (mut given, mut counted) = (0, 0);
        let items = stream::poll_fn(move |cx| {
            let item = receiver.poll_next_unpin(cx);
            if item.is_ready() {
                given += 1;
            } else {
                (counted..given).for_each(|_| signal.add());
                counted = given;
            }
            item.map(|item| item.map(Ok))
        });
        let make = Place::Runtime.maker(items)?;
        let feed = function(move |_, arguments| {
            let (item, count): (Py<PyAny>, usize) = arguments.extract()?;
            for _ in 0..count {
                let item = item.clone_ref(arguments.py());
                sender.unbounded_send(item).map_err(|_| PyRuntimeError::new_err("nobody receives"))?;
            }
            Ok(())
        })?;
        let released = code.future("leave", (make, feed, fed, end))?.await?;
        assert!(Python::attach(|py| released.extract::<bool>(py))?, "{end}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn nothing_happens_before_the_first_item_is_asked_for() -> PyResult<()> {
    let code = Code::new(
        c"
async def make_and_drop(make):
    iterator = make()
    unawaited = aiter(iterator).__anext__()
    for _ in range(3):
        await asyncio.sleep(0)
",
    )?;
    for place in Place::ALL {
        let (feed, given, dropped, stream) = fed();
        feed.unbounded_send(Ok(1)).expect("the stream receives");
        code.future("make_and_drop", (place.maker(stream)?,))?.await?;
        assert_eq!((given.get(), dropped.get()), (0, 1), "{place:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_item_that_waits_is_had_without_a_switch_of_tasks() -> PyResult<()> {
    let code = Code::new(
        c"
async def take_the_rest(make, given, number):
    iterator = make()
    items = [await anext(iterator)]
    while given.get() < number:
        await asyncio.sleep(0)
    for _ in range(number - 1):
        # As the task would, but that it cannot wait.
        try:
            iterator.__anext__().send(None)
        except StopIteration as stop:
            items.append(stop.value)
    return items
",
    )?;
    let (feed, given, _, stream) = fed();
    for number in 0..10 {
        feed.unbounded_send(Ok(number)).expect("the stream receives");
    }
    let make = Place::Runtime.maker(stream)?;
    let items = code.future("take_the_rest", (make, given, 10))?.await?;
    assert!(Python::attach(|py| items.extract::<Vec<usize>>(py))?.into_iter().eq(0..10));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_stream_is_ahead_by_no_more_than_its_capacity() -> PyResult<()> {
    const ITEMS: usize = 50;

    let code = Code::new(
        c"
async def consume(make, given, capacity):
    iterator, consumed, ahead = make(), 0, []
    async for _ in iterator:
        consumed += 1
        # It comes as far as it may.
        while given.get() < min(consumed + (capacity + 1) // 2, 50):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        ahead.append(given.get() - consumed)
    return consumed, max(ahead)
",
    )?;
    for capacity in [1, 2, 3, 8] {
        let (feed, given, _, stream) = fed();
        for number in 0..ITEMS {
            feed.unbounded_send(Ok(number)).expect("the stream receives");
        }
        drop(feed);
        let make = maker(move |py| into_async_iterator_with_capacity(py, stream, capacity))?;
        let outcome = code.future("consume", (make, given.clone(), capacity))?.await?;
        let (consumed, ahead): (usize, usize) = Python::attach(|py| outcome.extract(py))?;
        assert_eq!((consumed, given.get()), (ITEMS, ITEMS));
        assert!(ahead <= capacity, "{ahead} items ahead, with a capacity of {capacity}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_consumer_that_waits_lets_the_stream_go_as_far_as_its_capacity() -> PyResult<()> {
    let code = Code::new(
        c"
gate = Gate()

async def consume_one(make):
    global iterator
    iterator = make()
    return await anext(iterator)
",
    )?;
    let given = Counter::new();
    let signal = given.clone();
    let make = maker(move |py| {
        let endless = stream::repeat_with(move || {
            signal.add();
            Ok(0)
        });
        into_async_iterator_with_capacity(py, endless, 8)
    })?;
    code.future("consume_one", (make,))?.await?;
    given.reached(9).await;
    for _ in 0..100 {
        turn().await;
    }
    assert_eq!(given.get(), 9);
    code.run(c"iterator = None")
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_local_stream_is_never_ahead() -> PyResult<()> {
    let code = Code::new(
        c"
async def consume(make, given):
    return [given.get() async for _ in make()]
",
    )?;
    let (feed, given, _, stream) = fed();
    for number in 0..10 {
        feed.unbounded_send(Ok(number)).expect("the stream receives");
    }
    drop(feed);
    let seen = code.future("consume", (Place::EventLoop.maker(stream)?, given))?.await?;
    assert!(Python::attach(|py| seen.extract::<Vec<usize>>(py))?.into_iter().eq(1..11));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
#[should_panic(expected = "at least one item")]
async fn there_is_no_capacity_of_nothing() {
    let make = maker(|py| into_async_iterator_with_capacity(py, stream::empty::<PyResult<usize>>(), 0));
    let error = awaited(make.expect("a function is made")).expect("it is called").await.expect_err("it panics");
    panic!("{error}");
}

const CANCEL: &CStr = c"
async def cancel_and_go_on(make, feed):
    iterator = make()
    outcomes = []
    # Cancelled while it waits.
    task = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    outcomes.append(task.cancelled())
    # Cancelled before it has begun.
    task = asyncio.ensure_future(anext(iterator))
    task.cancel()
    await asyncio.wait([task])
    outcomes.append(task.cancelled())
    feed()
    return outcomes, [item async for item in iterator]

# As a task that is cancelled when what it waits for has come, but it has not gone on yet.
async def cancel_after_delivery(make, feed):
    iterator = make()
    awaitable = iterator.__anext__()
    waiter = awaitable.send(None)
    waiter._asyncio_future_blocking = False
    feed()
    while not waiter.done():
        await asyncio.sleep(0)
    try:
        awaitable.throw(asyncio.CancelledError())
    except asyncio.CancelledError:
        return [True], [item async for item in iterator]
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_cancelled_consumer_loses_no_item() -> PyResult<()> {
    let code = Code::new(CANCEL)?;
    for place in Place::ALL {
        for way in ["cancel_and_go_on", "cancel_after_delivery"] {
            let (feed, _, dropped, stream) = fed();
            let feed = pyo3_await_pytests::once(move |_| {
                (0..10).for_each(|number| feed.unbounded_send(Ok(number)).expect("the stream receives"));
                Ok(())
            })?;
            let outcome = code.future(way, (place.maker(stream)?, feed))?.await?;
            let (cancelled, items): (Vec<bool>, Vec<usize>) = Python::attach(|py| outcome.extract(py))?;
            assert!(cancelled.into_iter().all(|cancelled| cancelled), "{place:?}, {way}");
            assert!(items.into_iter().eq(0..10), "{place:?}, {way}");
            dropped.reached(1).await;
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_second_consumer_is_refused() -> PyResult<()> {
    let code = Code::new(
        c"
async def outcome(awaitable):
    try:
        return await awaitable
    except RuntimeError as error:
        return str(error)

async def consume_twice(make, feed):
    iterator = make()
    task = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0)
    calls = [iterator.__anext__(), iterator.asend(None), iterator.aclose(), iterator.athrow(ValueError())]
    refused = [await outcome(call) for call in calls]
    feed()
    return refused, await task, [item async for item in iterator]
",
    )?;
    for place in Place::ALL {
        let (feed, _, _, stream) = fed();
        let feed = pyo3_await_pytests::once(move |_| {
            (0..3).for_each(|number| feed.unbounded_send(Ok(number)).expect("the stream receives"));
            Ok(())
        })?;
        let outcome = code.future("consume_twice", (place.maker(stream)?, feed))?.await?;
        let (refused, first, rest): (Vec<String>, usize, Vec<usize>) = Python::attach(|py| outcome.extract(py))?;
        let expected = ["anext", "anext", "aclose", "athrow"]
            .map(|name| format!("{name}(): asynchronous generator is already running"));
        assert_eq!(refused, expected, "{place:?}");
        assert_eq!((first, rest), (0, vec![1, 2]), "{place:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn aclose_waits_for_the_drop() -> PyResult<()> {
    let code = Code::new(
        c"
import contextlib

async def leave(make, dropped):
    async with contextlib.aclosing(make()) as iterator:
        async for item in iterator:
            break
        before = dropped.get()
    return before, dropped.get(), await anext(iterator, 'the end')

async def close_unstarted(make, dropped):
    iterator = make()
    before = dropped.get()
    await iterator.aclose()
    return before, dropped.get(), await anext(iterator, 'the end')

async def throw(make, dropped):
    iterator = make()
    await anext(iterator)
    before, error = dropped.get(), ValueError('thrown')
    try:
        await iterator.athrow(error)
    except ValueError as raised:
        if raised is error:
            return before, dropped.get(), await anext(iterator, 'the end')
",
    )?;
    for place in Place::ALL {
        for way in ["leave", "close_unstarted", "throw"] {
            let (feed, _, dropped, stream) = fed();
            feed.unbounded_send(Ok(1)).expect("the stream receives");
            let outcome = code.future(way, (place.maker(stream)?, dropped))?.await?;
            let outcome: (usize, usize, String) = Python::attach(|py| outcome.extract(py))?;
            assert_eq!(outcome, (0, 1, "the end".to_owned()), "{place:?}, {way}");
            drop(feed);
        }
    }
    Ok(())
}

/// A stream of so many items, which panics when it is dropped.
struct Bomb {
    items: usize,
    /// Counts the drop, just before.
    dropped: Counter,
}

impl Stream for Bomb {
    type Item = PyResult<usize>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.items == 0 {
            return Poll::Ready(None);
        }
        self.items -= 1;
        Poll::Ready(Some(Ok(1)))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.dropped.add();
        panic!("the drop panicked");
    }
}

/// Whether the stream has ended before, when nobody asks for its end, or only by `aclose`, makes no difference.
#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_panic_of_the_drop_is_raised_by_aclose() -> PyResult<()> {
    let code = Code::new(
        c"
import asyncio

async def close(make, items, drops, dropped):
    iterator = make()
    for _ in range(items):
        await anext(iterator)
    while dropped.get() < drops:
        await asyncio.sleep(0)
    # What comes right after the drop has come, too.
    await asyncio.sleep(0.01)
    await iterator.aclose()
",
    )?;
    let endless = Place::ALL.into_iter().flat_map(|place| [(place, usize::MAX, 0, 0), (place, usize::MAX, 1, 0)]);
    for (place, length, items, drops) in endless.chain([(Place::Runtime, 3, 1, 1)]) {
        let dropped = Counter::new();
        let make = place.maker(Bomb { items: length, dropped: dropped.clone() })?;
        let error = code.future("close", (make, items, drops, dropped))?.await.expect_err("the drop panics");
        Python::attach(|py| assert!(error.is_instance_of::<RustPanic>(py), "{place:?}: {error}"));
        assert!(error.to_string().contains("the drop panicked"), "{place:?}: {error}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_iterator_that_is_garbage_drops_its_stream() -> PyResult<()> {
    let code = Code::new(
        c"
import gc

async def leave(make):
    async for item in make():
        break

async def forget(make):
    iterator = make()
    await anext(iterator)

async def leave_in_a_cycle(make):
    class Node:
        pass
    node = Node()
    node.node, node.iterator = node, make()
    await anext(node.iterator)
    del node
    gc.collect()

# A task that waits for an item, and that nobody knows any more but itself.
async def leave_a_task(make):
    iterator = make()
    await anext(iterator)
    task = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0)
    task.cancel()
",
    )?;
    for place in Place::ALL {
        for way in ["leave", "forget", "leave_in_a_cycle", "leave_a_task"] {
            let (feed, _, dropped, stream) = fed();
            feed.unbounded_send(Ok(1)).expect("the stream receives");
            code.future(way, (place.maker(stream)?,))?.await?;
            dropped.reached(1).await;
            drop(feed);
        }
    }
    Ok(())
}

/// Tells in which thread it is dropped.
struct Dropped<F: Fn()>(F);

impl<F: Fn()> Drop for Dropped<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_stream_is_polled_and_dropped_by_a_worker() -> PyResult<()> {
    let code = Code::new(
        c"
async def leave(make):
    async for item in make():
        return item
",
    )?;
    let (sender, dropped) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let guard = Dropped(move || {
        let sender = sender.lock().expect("nothing panics under the lock").take().expect("it is dropped once");
        sender.send(Subject::on_worker()).expect("the test receives");
    });
    let make = Place::Runtime.maker(stream::repeat_with(move || {
        let _guard = &guard;
        Ok(Subject::on_worker())
    }))?;
    let polled = code.future("leave", (make,))?.await?;
    assert!(Python::attach(|py| polled.is_truthy(py))?);
    assert!(dropped.await.expect("it is sent"));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_stream_that_the_runtime_drops_is_an_error() -> PyResult<()> {
    let runtime = Mortal::new(current_runtime()?);
    let (feed, given, dropped, stream) = fed();
    feed.unbounded_send(Ok(1)).expect("the stream receives");
    let mortal = runtime.clone();
    let make = maker(move |py| mortal.into_async_iterator(py, stream))?;
    let outcome = Code::new(COLLECT)?.future("collect_until_error", (make,))?;
    let shut_down = async {
        given.reached(1).await;
        runtime.shut_down();
    };
    let (outcome, ()) = futures::join!(outcome, shut_down);
    Python::attach(|py| {
        let (items, error, end): (Vec<usize>, Bound<'_, PyAny>, String) = outcome?.extract(py)?;
        assert_eq!((items, &*end), (vec![1], "the end"));
        assert!(error.is_instance_of::<PyRuntimeError>(), "{error}");
        assert!(error.to_string().starts_with("the Rust runtime dropped the stream 'Fed' before it"), "{error}");
        PyResult::Ok(())
    })?;
    assert_eq!(dropped.get(), 1);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn an_event_loop_that_ends_closes_its_streams() -> PyResult<()> {
    let code = Code::new(
        c"
kept = []

async def start(make):
    iterator = make()
    kept.append(iterator)
    return await anext(iterator)
",
    )?;
    for place in Place::ALL {
        let (feed, _, dropped, stream) = fed();
        feed.unbounded_send(Ok(1)).expect("the stream receives");
        let make = place.maker(stream)?;
        Python::attach(|py| {
            let event_loop = new_event_loop(py)?;
            event_loop.call_method1("run_until_complete", (code.call(py, "start", (make,))?,))?;
            assert_eq!(dropped.get(), 0, "{place:?}");
            event_loop.call_method1("run_until_complete", (event_loop.call_method0("shutdown_asyncgens")?,))?;
            assert_eq!(dropped.get(), 1, "{place:?}");
            event_loop.call_method0("close").map(drop)
        })?;
        drop(feed);
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn a_stream_goes_on_on_another_event_loop() -> PyResult<()> {
    let code = Code::new(
        c"
async def start(make):
    global iterator
    iterator = make()
    return await anext(iterator)

async def wait():
    try:
        await asyncio.wait_for(anext(iterator), 0.01)
    except asyncio.TimeoutError:
        pass

async def go_on(feed):
    task = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0)
    feed()
    return await task
",
    )?;
    for place in Place::ALL {
        let (feed, _, dropped, stream) = fed();
        feed.unbounded_send(Ok(1)).expect("the stream receives");
        let make = place.maker(stream)?;
        let feed = pyo3_await_pytests::once(move |_| {
            feed.unbounded_send(Ok(2)).expect("the stream receives");
            Ok(())
        })?;
        Python::attach(|py| {
            let run = |call: Bound<'_, PyAny>| {
                let event_loop = new_event_loop(py)?;
                let result = event_loop.call_method1("run_until_complete", (call,))?.extract::<Option<usize>>();
                event_loop.call_method0("close")?;
                result
            };
            assert_eq!(run(code.call(py, "start", (make,))?)?, Some(1), "{place:?}");
            assert_eq!(run(code.call(py, "wait", ())?)?, None, "{place:?}");
            assert_eq!(run(code.call(py, "go_on", (feed,))?)?, Some(2), "{place:?}");
            PyResult::Ok(())
        })?;
        code.run(c"del iterator")?;
        dropped.wait(1);
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_stream_has_the_locals_of_its_consumer() -> PyResult<()> {
    let code = Code::new(
        c"
import contextvars

variable = contextvars.ContextVar('variable', default='unset')

async def double(number):
    await asyncio.sleep(0)
    return 2 * number, variable.get()

async def collect(make):
    variable.set('the consumer')
    return [item async for item in make()]
",
    )?;
    let code = Arc::new(code);
    for place in Place::ALL {
        let shared = Arc::clone(&code);
        let make = place.maker(stream::iter(0..3).then(move |number| {
            let code = Arc::clone(&shared);
            async move {
                let call = Python::attach(|py| into_future(code.call(py, "double", (number,))?))?;
                let doubled = call.await?;
                let (doubled, in_python): (usize, String) = Python::attach(|py| doubled.extract(py))?;
                let in_rust = attach(|py| code.get(py, "variable")?.call_method0("get")?.extract::<String>())?;
                Ok((doubled, in_python, in_rust))
            }
        }))?;
        let items = code.future("collect", (make,))?.await?;
        let items: Vec<(usize, String, String)> = Python::attach(|py| items.extract(py))?;
        let expected = [0, 2, 4].map(|number| (number, "the consumer".to_owned(), "the consumer".to_owned()));
        assert_eq!(items, expected, "{place:?}");
    }
    Ok(())
}

/// Remembers in which thread it is dropped. It is not `Send`.
struct Drops(Arc<Mutex<Vec<ThreadId>>>, PhantomData<Rc<()>>);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.lock().expect("nothing panics under the lock").push(thread::current().id());
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_local_stream_need_not_be_send() -> PyResult<()> {
    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    let drops = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&drops);
    let make = maker(move |py| {
        let guard = Rc::new(Drops(seen, PhantomData));
        let stream = stream::iter(0..3).then(move |number| {
            let guard = Rc::clone(&guard);
            async move {
                Subject::sleep(Duration::from_millis(1)).await;
                drop(guard);
                Ok((number, thread::current().id() == event_loop))
            }
        });
        into_local_async_iterator(py, stream)
    })?;
    let items = Code::new(COLLECT)?.future("collect", (make,))?.await?;
    let items: Vec<(usize, bool)> = Python::attach(|py| items.extract(py))?;
    assert_eq!(items, [(0, true), (1, true), (2, true)]);
    assert_eq!(*drops.lock().expect("nothing panics under the lock"), [event_loop]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_local_stream_is_refused_by_another_thread() -> PyResult<()> {
    let code = Code::new(
        c"
async def first(iterator):
    return await anext(iterator)
",
    )?;
    let (_feed, given, dropped, stream) = fed();
    // It is made by the test's thread, and iterated over on the event loop's.
    let iterator = Python::attach(|py| into_local_async_iterator(py, stream).map(Bound::unbind))?;
    let error = code.future("first", (&iterator,))?.await.expect_err("it is another thread");
    let message = error.to_string();
    assert!(message.contains("the local Rust stream 'Fed' can't leave its thread"), "{message}");
    assert!(message.contains("make it by into_async_iterator"), "{message}");
    assert_eq!((given.get(), dropped.get()), (0, 0));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn a_thousand_streams_run_at_once() -> PyResult<()> {
    // Each of them is a task.
    const STREAMS: usize = 1_000;
    const ITEMS: usize = 20;

    let code = Code::new(
        c"
async def total(make, index):
    return sum([item async for item in make(index)])

async def totals(make, number):
    return await asyncio.gather(*[total(make, index) for index in range(number)])
",
    )?;
    for place in Place::ALL {
        let (started, dropped) = (Counter::new(), Counter::new());
        let (signal, drops) = (started.clone(), dropped.clone());
        let make = function(move |py, arguments| {
            let index: usize = arguments.get_item(0)?.extract()?;
            let (started, guard) = (signal.clone(), drops.guard());
            let stream = stream::iter(0..ITEMS).then(move |number| {
                let (_guard, started) = (&guard, started.clone());
                async move {
                    if number == 0 {
                        started.add();
                        // So that all of them run at the same time.
                        started.reached(STREAMS).await;
                    }
                    Ok(index)
                }
            });
            place.convert(py, stream).map(Bound::unbind)
        })?;
        let totals = code.future("totals", (make, STREAMS))?.await?;
        let totals: Vec<usize> = Python::attach(|py| totals.extract(py))?;
        assert!(totals.into_iter().eq((0..STREAMS).map(|index| index * ITEMS)), "{place:?}");
        dropped.reached(STREAMS).await;
    }
    Ok(())
}

/// An item that counts how many of its kind there are.
struct Living(Arc<AtomicUsize>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<'py> IntoPyObject<'py> for Living {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = Infallible;

    /// Becomes the number of those that are alive.
    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        self.0.load(Ordering::SeqCst).into_pyobject(py)
    }
}

#[pyo3_await::test(crate = adapter, timeout = "180s")]
async fn of_a_million_items_few_are_alive_at_a_time() -> PyResult<()> {
    const ITEMS: usize = 1_000_000;
    const CAPACITY: usize = 64;

    let code = Code::new(
        c"
async def count(make):
    count = most = 0
    async for living in make():
        count += 1
        most = max(most, living)
    return count, most
",
    )?;
    let living = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&living);
    let items = stream::iter(0..ITEMS).map(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Living(Arc::clone(&count)))
    });
    let make = maker(move |py| into_async_iterator_with_capacity(py, items, CAPACITY))?;
    let outcome = code.future("count", (make,))?.await?;
    let (count, most): (usize, usize) = Python::attach(|py| outcome.extract(py))?;
    assert_eq!((count, living.load(Ordering::SeqCst)), (ITEMS, 0));
    // Those in the buffer, one at each side of it.
    assert!(most <= CAPACITY + 2, "{most} items were alive at the same time");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn random_cancellations_lose_and_double_nothing() -> PyResult<()> {
    const ITEMS: usize = 2_000;

    let code = Code::new(
        c"
async def consume(make, turns):
    iterator, items, cancelled = make(), [], 0
    for turn in turns:
        task = asyncio.ensure_future(anext(iterator, None))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            cancelled += 1
        else:
            items.append(task.result())
    items = [item for item in items if item is not None]
    async for item in iterator:
        items.append(item)
    return items, cancelled
",
    )?;
    for place in Place::ALL {
        for seed in 0..4 {
            let mut random = Random::new(seed);
            let turns: Vec<usize> = (0..1_000).map(|_| random.below(6)).collect();
            let made = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&made);
            let stream = stream::unfold((0, random), move |(number, mut random)| {
                let count = Arc::clone(&count);
                async move {
                    if number == ITEMS {
                        return None;
                    }
                    for _ in 0..random.below(3) {
                        turn().await;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    Some((Ok(number), (number + 1, random)))
                }
            });
            let make = maker(move |py| match place {
                Place::Runtime => into_async_iterator_with_capacity(py, stream, 4),
                Place::EventLoop => into_local_async_iterator(py, stream),
            })?;
            let outcome = code.future("consume", (make, turns))?.await?;
            let (items, cancelled): (Vec<usize>, usize) = Python::attach(|py| outcome.extract(py))?;
            assert!(items.into_iter().eq(0..ITEMS), "{place:?}, seed {seed}");
            assert!(cancelled > 0, "{place:?}, seed {seed}: nothing was cancelled");
            assert_eq!(made.load(Ordering::SeqCst), ITEMS, "{place:?}, seed {seed}");
        }
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_stream_that_is_always_ready_leaves_its_worker_to_others() -> PyResult<()> {
    let code = Code::new(
        c"
async def drop_after(make, other):
    iterator = make()
    async for item in iterator:
        if other.get():
            return item
",
    )?;
    // On tokio's scheduler with one thread the other task would have no turn.
    let other = Counter::new();
    let make = Place::Runtime.maker(stream::repeat_with(|| Ok(1)))?;
    let signal = other.clone();
    let consumer = code.future("drop_after", (make, other))?;
    adapter::spawn(async move {
        turn().await;
        signal.add();
    })?;
    let item = pin!(consumer).await?;
    assert_eq!(Python::attach(|py| item.extract::<usize>(py))?, 1);
    Ok(())
}
