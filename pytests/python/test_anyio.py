"""anyio, on each kind of asyncio's loops: its tasks await Rust futures, and its cancel scopes drop them."""

import asyncio

import anyio
import bridge
import pytest
from support import coroutine_ways, drops


@coroutine_ways
async def test_a_task_group_awaits(way):
    results = []

    async def work(number):
        results.append(await bridge.value(way, number, True))

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(work, number)
        # What gives a coroutine is as good as an async function.
        group.start_soon(bridge.value, way, None, True)
    assert sorted(results) == list(range(10))


@coroutine_ways
async def test_a_failure_drops_the_siblings(way):
    gate = bridge.Gate()
    with pytest.raises(Exception) as caught:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(gate.wait, way)
            while gate.started < 10:
                await anyio.lowlevel.checkpoint()
            group.start_soon(bridge.fail, way, ValueError("raised"), True)
    assert [str(error) for error in caught.value.exceptions] == ["raised"]
    await drops(gate, 10)


@coroutine_ways
async def test_a_cancel_scope_drops(way):
    gate = bridge.Gate()

    async def cancel(scope):
        while gate.started < 1:
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel, scope)
            await gate.wait(way)
    assert scope.cancelled_caught
    await drops(gate, 1)


async def test_a_cancel_scope_leaves_what_has_come_already():
    """A task whose future is done goes on with the result; anyio looks for that before it cancels."""
    gate = bridge.Gate()
    future = gate.wait("future", 1)
    scope = anyio.CancelScope()
    # The task goes on after that, in the loop's next turn.
    future.add_done_callback(lambda _: scope.cancel())

    async def wait():
        with scope:
            return await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    gate.open(1)
    assert await task == 1
