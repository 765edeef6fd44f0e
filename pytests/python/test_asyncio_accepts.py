"""Wherever asyncio takes a coroutine or a future, it takes those of Rust."""

import asyncio
import inspect
import sys
import threading

import bridge
import pytest
from support import coroutine_ways, drops, in_task, outcome_of, settle, turns

since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")


# What runs a loop.


@coroutine_ways
@pytest.mark.parametrize("later", [False, True])
def test_asyncio_run(asyncio_run, later, way):
    assert asyncio_run(bridge.value(way, "the value", later)) == "the value"


@coroutine_ways
def test_asyncio_run_raises(asyncio_run, way):
    error = ValueError("raised")
    with pytest.raises(ValueError) as caught:
        asyncio_run(bridge.fail(way, error, True))
    assert caught.value is error


@coroutine_ways
def test_asyncio_run_twice(asyncio_run, way):
    for value in range(2):
        assert asyncio_run(bridge.value(way, value, True)) == value


@coroutine_ways
@since_3_11
def test_runner(new_loop, way):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for value in range(2):
            assert runner.run(bridge.value(way, value, True)) == value


@coroutine_ways
def test_run_until_complete(new_loop, way):
    loop = new_loop()
    assert loop.run_until_complete(bridge.value(way, 1, True)) == 1

    async def start():
        return bridge.value("future", 2, True)

    assert loop.run_until_complete(loop.run_until_complete(start())) == 2


def test_run_coroutine_threadsafe(new_loop, way):
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def awaited():
        return await bridge.value(way, "the value", True)

    coroutine = bridge.value(way, "the value", True) if way in ("coroutine", "eager") else awaited()
    assert asyncio.run_coroutine_threadsafe(coroutine, loop).result(20) == "the value"

    gate = bridge.Gate()
    coroutine = gate.wait(way) if way in ("coroutine", "eager") else in_loop(gate.wait, way)
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    gate.wait_for_starts(1)
    assert future.cancel()
    gate.wait_for_drops(1)
    # The value is dropped by a worker; the loop's task hears of it after that.
    asyncio.run_coroutine_threadsafe(other_tasks(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def other_tasks():
    """Waits for the end of all tasks of the running loop but this one."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*tasks, return_exceptions=True)


async def in_loop(make, *arguments):
    """What can be made only where the loop runs."""
    return await make(*arguments)


# What makes a task.


@coroutine_ways
async def test_create_task(way):
    task = asyncio.create_task(bridge.value(way, "the value", True), name="named")
    assert task.get_name() == "named"
    assert await task == "the value"
    assert task.result() == "the value"


async def test_a_task_written_in_python(way):
    task = asyncio.tasks._PyTask(in_task(bridge.value(way, 1, True)), loop=asyncio.get_running_loop())
    assert await task == 1
    if way != "future":
        task = asyncio.tasks._PyTask(bridge.value(way, 2, True), loop=asyncio.get_running_loop())
        assert await task == 2


async def test_ensure_future(way):
    awaitable = bridge.value(way, 1, True)
    future = asyncio.ensure_future(awaitable)
    assert isinstance(future, asyncio.Task) if way != "future" else future is awaitable
    assert await future == 1


async def test_wrap_future():
    future = bridge.value("future", 1, True)
    assert asyncio.wrap_future(future) is future
    assert await future == 1


@coroutine_ways
@since_3_11
async def test_task_group(way):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bridge.value(way, value, True)) for value in range(10)]
    assert [task.result() for task in tasks] == list(range(10))


@since_3_12
@pytest.mark.parametrize("later", [False, True])
async def test_eager_tasks(way, later):
    def create_task(awaitable):
        return asyncio.Task(in_task(awaitable), loop=asyncio.get_running_loop(), eager_start=True)

    gate = bridge.Gate()
    gate.open(1)
    # Neither is left for the loop to start.
    first = create_task(gate.wait(way, "first"))
    second = create_task(bridge.value(way, "second", later))
    gate.wait_for_drops(1)
    assert await asyncio.gather(first, second) == ["first", "second"]


# What waits.


async def test_gather(way):
    awaitables = [bridge.value(way, value, value % 2 == 0) for value in range(100)]
    assert await asyncio.gather(*awaitables) == list(range(100))


async def test_gather_with_python(way):
    results = await asyncio.gather(bridge.value(way, 1, True), asyncio.sleep(0, 2), bridge.value(way, 3, False))
    assert results == [1, 2, 3]


async def test_gather_returns_exceptions(way):
    error = ValueError("returned")
    results = await asyncio.gather(
        bridge.value(way, 1, True), bridge.fail(way, error, True), return_exceptions=True
    )
    assert results == [1, error]


async def test_gather_raises_the_first_exception(way):
    gate = bridge.Gate()
    with pytest.raises(ValueError, match="raised"):
        await asyncio.gather(gate.wait(way), bridge.fail(way, ValueError("raised"), True))
    assert gate.dropped == 0
    gate.open(1)
    await drops(gate, 1)
    await turns()


async def test_gather_is_cancelled(way):
    gate = bridge.Gate()
    gathering = asyncio.gather(*(gate.wait(way) for _ in range(10)))
    await asyncio.sleep(0)
    gate.wait_for_starts(10)
    assert gathering.cancel("why")
    assert (await outcome_of(gathering))[:2] == ("raised", asyncio.CancelledError)
    # It ends with the first of them.
    await drops(gate, 10)
    await turns()


async def test_gather_of_a_cancelled_future():
    gate = bridge.Gate()
    future = gate.wait("future")
    gathering = asyncio.gather(future, return_exceptions=False)
    # It needs `_make_cancelled_error` of its children.
    future.cancel("why")
    assert await outcome_of(gathering) == ("raised", asyncio.CancelledError, "why")
    gathering = asyncio.gather(future, return_exceptions=True)
    (error,) = await gathering
    assert isinstance(error, asyncio.CancelledError)


async def test_wait(way):
    gates = [bridge.Gate() for _ in range(3)]
    futures = [asyncio.ensure_future(gate.wait(way, index)) for index, gate in enumerate(gates)]
    gates[1].open(1)
    done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({futures[1]}, {futures[0], futures[2]})
    done, pending = await asyncio.wait(pending, timeout=0)
    assert (done, pending) == (set(), {futures[0], futures[2]})
    for gate in gates:
        gate.open(1)
    done, pending = await asyncio.wait(futures)
    assert (done, pending) == (set(futures), set())
    assert [future.result() for future in futures] == [0, 1, 2]


async def test_wait_for_the_first_exception(way):
    gate = bridge.Gate()
    waits = asyncio.ensure_future(gate.wait(way))
    fails = asyncio.ensure_future(bridge.fail(way, ValueError("raised"), True))
    succeeds = asyncio.ensure_future(bridge.value(way, None, False))
    done, pending = await asyncio.wait([waits, fails, succeeds], return_when=asyncio.FIRST_EXCEPTION)
    assert fails in done
    # The one that succeeds may come before or after.
    assert waits in pending and fails not in pending
    assert str(fails.exception()) == "raised"
    gate.open(1)
    await waits


async def test_wait_for(way):
    assert await asyncio.wait_for(bridge.value(way, 1, True), 20) == 1
    assert await asyncio.wait_for(bridge.value(way, 2, True), None) == 2
    assert await outcome_of(asyncio.wait_for(bridge.fail(way, KeyError(3), True), 20)) == ("raised", KeyError, "3")


@pytest.mark.parametrize("limit", [0, 0.01])
async def test_wait_for_times_out(way, limit):
    gate = bridge.Gate()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(gate.wait(way), limit)
    assert gate.dropped == 1


@since_3_11
async def test_timeout(way):
    async with asyncio.timeout(20):
        assert await bridge.value(way, 1, True) == 1
    gate = bridge.Gate()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01) as timeout:
            await gate.wait(way)
    assert timeout.expired()
    assert gate.dropped == 1
    # It is over with the block.
    assert await bridge.value(way, 2, True) == 2


@since_3_11
async def test_the_inner_timeout_is_the_one_that_expires(way):
    gate = bridge.Gate()
    async with asyncio.timeout(20) as outer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await gate.wait(way)
    assert not outer.expired()
    assert gate.dropped == 1


async def test_shield(way):
    gate = bridge.Gate()
    inner = asyncio.ensure_future(gate.wait(way, "the value"))
    outer = asyncio.shield(inner)
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    assert outer.cancel()
    assert (await outcome_of(outer))[:2] == ("raised", asyncio.CancelledError)
    assert gate.dropped == 0
    gate.open(1)
    assert await inner == "the value"


async def test_shield_passes_the_result_on(way):
    assert await asyncio.shield(bridge.value(way, 1, True)) == 1
    assert await outcome_of(asyncio.shield(bridge.fail(way, KeyError(2), True))) == ("raised", KeyError, "2")


async def test_as_completed(way):
    gates = [bridge.Gate() for _ in range(3)]
    completed = asyncio.as_completed([gate.wait(way, index) for index, gate in enumerate(gates)])
    order = []
    for index, each in zip([2, 0, 1], completed):
        gates[index].open(1)
        order.append(await each)
    assert order == [2, 0, 1]


async def test_a_future_of_another_loop(new_loop):
    done = bridge.value("future", 1, True)
    await done
    gate = bridge.Gate()
    pending = gate.wait("future", 2)

    def elsewhere():
        loop = new_loop()
        return [loop.run_until_complete(outcome_of(future)) for future in (done, pending)]

    outcomes = await asyncio.get_running_loop().run_in_executor(None, elsewhere)
    # As with those of asyncio: only what is done may be awaited anywhere.
    assert outcomes[0] == ("returned", 1)
    assert outcomes[1][:2] == ("raised", RuntimeError)
    assert "attached to a different loop" in outcomes[1][2]
    gate.open(1)
    await settle(pending)
    assert await pending == 2


# Frameworks that ask whether a function is asynchronous.


@coroutine_ways
async def test_a_wrapper_makes_an_async_function(way):
    """The guide's recipe: a built-in function cannot be marked, and what it gives is not of Python's own type."""

    async def value(*arguments):
        return await bridge.value(way, *arguments)

    assert not inspect.iscoroutinefunction(bridge.value)
    assert inspect.iscoroutinefunction(value)
    coroutine = value(1, True)
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == 1
    if sys.version_info >= (3, 12):
        with pytest.raises(AttributeError):
            inspect.markcoroutinefunction(bridge.value)
