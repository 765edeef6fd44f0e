"""Errors, panics, and values that cannot be converted."""

import asyncio
import re
import sys

import bridge
import pytest
from support import coroutine_ways, drops, outcome_of, spawned_ways, turns

since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")


def depth(traceback):
    count = 0
    while traceback is not None:
        traceback, count = traceback.tb_next, count + 1
    return count


class Custom(Exception):
    def __init__(self, one, *, two):
        super().__init__(one)
        self.two = two


# Exceptions.


@pytest.mark.parametrize("later", [False, True])
async def test_the_exception_is_the_same_object(way, later):
    error = Custom(1, two=2)
    with pytest.raises(Custom) as caught:
        await bridge.fail(way, error, later)
    assert caught.value is error
    assert error.two == 2


async def test_an_exception_keeps_its_cause_and_context(way):
    try:
        try:
            raise KeyError("context")
        except KeyError:
            raise ValueError("error") from OSError("cause")
    except ValueError as raised:
        error = raised
    with pytest.raises(ValueError) as caught:
        await bridge.fail(way, error, True)
    assert caught.value is error
    assert repr(error.__cause__) == "OSError('cause')"
    assert repr(error.__context__) == "KeyError('context')"
    assert error.__suppress_context__ is True


@since_3_11
async def test_an_exception_keeps_its_notes(way):
    error = ValueError("error")
    error.add_note("a note")
    with pytest.raises(ValueError) as caught:
        await bridge.fail(way, error, True)
    assert caught.value.__notes__ == ["a note"]


@since_3_11
async def test_an_exception_group_is_the_same_object(way):
    error = ExceptionGroup("group", [ValueError(1), KeyError(2)])
    with pytest.raises(ExceptionGroup) as caught:
        await bridge.fail(way, error, True)
    assert caught.value is error


async def test_the_traceback_shows_where_it_was_awaited(way):
    async def awaiting():
        await bridge.fail(way, ValueError("error"), True)

    with pytest.raises(ValueError) as caught:
        await awaiting()
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "awaiting"


async def test_the_traceback_keeps_where_it_was_raised_before(way):
    def raising():
        raise ValueError("error")

    try:
        raising()
    except ValueError as raised:
        error = raised
    with pytest.raises(ValueError) as caught:
        await bridge.fail(way, error, True)
    assert [entry.name for entry in caught.traceback][-1] == "raising"


async def test_awaiting_twice_does_not_grow_the_traceback():
    future = bridge.fail("future", ValueError("error"), True)
    depths = []
    for _ in range(3):
        try:
            await future
        except ValueError as error:
            depths.append(depth(error.__traceback__))
    assert depths == [1, 1, 1]
    for _ in range(3):
        try:
            future.result()
        except ValueError as error:
            depths.append(depth(error.__traceback__))
    assert depths == [1, 1, 1, 1, 1, 1]


async def test_an_exception_can_fail_many_futures(way):
    error = ValueError("error")
    outcomes = await asyncio.gather(*(bridge.fail(way, error, True) for _ in range(10)), return_exceptions=True)
    assert all(outcome is error for outcome in outcomes)


@pytest.mark.parametrize("later", [False, True])
async def test_a_stop_iteration_cannot_end_a_coroutine(way, later):
    """As PEP 479 has it: it would be taken for a return."""
    error = StopIteration("not a result")

    async def awaiting():
        return await bridge.fail(way, error, later)

    awaitables = [awaiting()]
    if way != "future":
        awaitables.append(bridge.fail(way, error, later))
    for awaitable in awaitables:
        with pytest.raises(RuntimeError) as caught:
            await asyncio.wait_for(asyncio.create_task(awaitable), 20)
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("later", [False, True])
async def test_a_cancellation_as_an_error_is_a_cancellation(way, reports, later):
    """As it is for a task: that of a Python task which Rust awaited comes this way."""

    async def raising():
        raise asyncio.CancelledError("why")

    future = asyncio.ensure_future(bridge.fail(way, asyncio.CancelledError("why"), later))
    reference = asyncio.ensure_future(raising())
    await asyncio.wait([future, reference])
    assert future.cancelled() and reference.cancelled()
    if way == "future":
        assert await outcome_of(future) == ("raised", asyncio.CancelledError, "why")
    else:
        assert await outcome_of(future) == await outcome_of(reference)
    bridge.fail("future", asyncio.CancelledError("unretrieved"), later)
    await bridge.value(way, None, True)
    await turns()
    assert reports.take() == []


@pytest.mark.parametrize("kind", [GeneratorExit, StopAsyncIteration, BaseException])
async def test_exceptions_of_every_kind(way, kind):
    error = kind("error")
    try:
        await bridge.fail(way, error, True)
    except BaseException as raised:
        caught = raised
    assert caught is error


@coroutine_ways
async def test_an_error_that_comes_when_the_coroutine_was_closed_is_not_reported(reports, way):
    gate = bridge.Gate()
    coroutine = gate.fail(way, ValueError("too late"))
    coroutine.send(None)
    gate.open(1)
    if way != "local":
        # It is on its way to the loop.
        gate.wait_for_drops(1)
    coroutine.close()
    await drops(gate, 1)
    await bridge.value(way, None, True)
    await turns()
    assert reports.take() == []


# Panics.


def panicked(message):
    """What a panic says, with its place, as a regular expression."""
    return rf"^{message}, at .*ends\.rs:\d+:\d+$"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("str", "a message"),
        ("string", "a message"),
        ("number", "a panic with a payload that is not a string"),
        # It panics once more when it is dropped.
        ("bomb", "a panic with a payload that is not a string"),
    ],
)
async def test_a_panic(way, payload, message, later):
    with pytest.raises(bridge.RustPanic, match=panicked(message)):
        await bridge.panic(way, payload, later)
    # The runtime is none the worse for it.
    assert await bridge.value(way, 1, True) == 1


def test_a_panic_is_an_exception():
    assert issubclass(bridge.RustPanic, Exception)
    assert f"{bridge.RustPanic.__module__}.{bridge.RustPanic.__qualname__}" == "pyo3_await.RustPanic"
    assert "panicked" in bridge.RustPanic.__doc__


@coroutine_ways
async def test_a_task_keeps_a_panic(way):
    task = asyncio.create_task(bridge.panic(way, "str", True))
    await asyncio.wait([task])
    assert isinstance(task.exception(), bridge.RustPanic)


async def test_a_panic_of_the_drop_at_a_cancellation(way):
    gate = bridge.Gate()
    future = asyncio.ensure_future(bridge.panic_when_dropped(way, gate))
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    future.cancel()
    with pytest.raises(bridge.RustPanic, match=panicked("the drop panicked")):
        await future
    assert await bridge.value(way, 1, True) == 1


@coroutine_ways
async def test_a_panic_of_the_drop_that_nobody_awaits(reports, way):
    gate = bridge.Gate()
    coroutine = bridge.panic_when_dropped(way, gate)
    coroutine.send(None)
    gate.wait_for_starts(1)
    coroutine.close()
    await drops(gate, 1)
    await bridge.value(way, 1, True)
    assert reports.take() == []


@coroutine_ways
def test_a_panic_of_the_drop_before_the_start(way):
    gate = bridge.Gate()
    coroutine = bridge.panic_when_dropped(way, gate)
    # It is dropped here, by `close`, which is where Python can be told.
    with pytest.raises(bridge.RustPanic, match=panicked("the drop panicked")):
        coroutine.close()
    assert gate.dropped == 1


def test_a_panic_of_the_drop_when_the_loop_is_closed(new_loop, way):
    """It keeps nobody else from being dropped."""
    gate = bridge.Gate()
    loop = new_loop()

    async def start():
        awaitables = [bridge.panic_when_dropped(way, gate) for _ in range(2)]
        awaitables += [gate.wait(way) for _ in range(8)]
        if way != "future":
            for awaitable in awaitables:
                awaitable.send(None)
        gate.wait_for_starts(10)
        return awaitables

    awaitables = loop.run_until_complete(start())
    loop.close()
    gate.wait_for_drops(10)
    del awaitables


# Values.


@pytest.fixture(params=[False, True], ids=["at once", "later"])
def later(request):
    """Whether a Rust future has been waited for when it ends."""
    return request.param


@pytest.fixture(params=[lambda awaitable: awaitable, asyncio.ensure_future], ids=["awaited", "in a task"])
def by(request):
    """Who awaits it."""
    return request.param


async def test_a_conversion_that_fails(way, later, by):
    awaitable = by(bridge.unconvertible(way, "fails", later))
    assert await outcome_of(awaitable) == ("raised", TypeError, "the conversion failed")


async def test_a_conversion_that_panics(way, later, by):
    with pytest.raises(bridge.RustPanic, match=panicked("the conversion panicked")):
        await by(bridge.unconvertible(way, "panics", later))
    assert await bridge.value(way, 1, True) == 1


async def test_a_conversion_cannot_look_like_a_return(way, later, by):
    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$") as raised:
        await by(bridge.unconvertible(way, "stops", later))
    assert type(raised.value.__cause__) is StopIteration


async def test_an_exception_that_cannot_be_made(way, later, by):
    for awaitable in bridge.unconvertible(way, "cannot say why", later), bridge.raises_what_cannot_be_made(way, later):
        with pytest.raises(bridge.RustPanic, match="Converting PyErr arguments failed"):
            await by(awaitable)


async def test_a_value_is_the_same_object(way):
    value = object()
    assert await bridge.value(way, value, True) is value


# Runtimes.


@spawned_ways
async def test_a_runtime_that_is_shut_down(way):
    gate = bridge.Gate()
    runtime = bridge.Runtime()
    future = asyncio.ensure_future(runtime.wait(way, gate))
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    runtime.shut_down()
    kind, error, message = await outcome_of(future)
    assert (kind, error) == ("raised", RuntimeError)
    expected = "the Rust runtime dropped the future 'wait' before it had ended: was the runtime shut down"
    assert message.startswith(expected)
    assert gate.dropped == 1


async def test_a_runtime_that_was_shut_down_before_the_start():
    gate = bridge.Gate()
    runtime = bridge.Runtime()
    coroutine = runtime.wait("coroutine", gate)
    runtime.shut_down()
    kind, error, message = await outcome_of(coroutine)
    assert (kind, error) == ("raised", RuntimeError)
    assert "the Rust runtime dropped the future 'wait' before it had ended" in message
    assert (gate.started, gate.dropped) == (0, 1)


async def test_two_runtimes_at_the_same_time(way):
    gate = bridge.Gate()
    gate.open(2)
    runtimes = [bridge.Runtime() for _ in range(2)]
    await asyncio.gather(*(runtime.wait(way, gate) for runtime in runtimes), bridge.value(way, 1, True))
    for runtime in runtimes:
        runtime.shut_down()
