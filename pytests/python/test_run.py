"""Event loops that Rust runs: `run`, `run_until_complete` and `run_forever`."""

import asyncio
import contextlib
import signal
import sys
import threading

import bridge
import pytest
from support import turns


@pytest.fixture
def bridge_run(asyncio_run):
    """`run`, on this test's kind of loop."""
    return bridge.run


async def value():
    await asyncio.sleep(0)
    return "the value"


async def fail(error):
    await asyncio.sleep(0)
    raise error


def test_run_gives_the_output(bridge_run):
    assert bridge_run(value) == "the value"


def test_run_makes_a_loop_of_the_policy(bridge_run, loop_class):
    async def look():
        return type(asyncio.get_running_loop())

    assert bridge_run(look) is loop_class


def test_run_gives_the_same_exception(bridge_run):
    error = ValueError("raised")
    with pytest.raises(ValueError) as caught:
        bridge_run(lambda: fail(error))
    assert caught.value is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_run_gives_what_ends_the_process(bridge_run, reports, kind):
    error = kind("stop")
    with pytest.raises(kind) as caught:
        bridge_run(lambda: fail(error))
    assert caught.value is error
    # It went through the loop, so that nobody has to be told of it.
    assert reports.take() == []


async def clean_up(ended):
    """Waits until it is cancelled, and then needs a while."""
    try:
        await asyncio.sleep(20)
    finally:
        await turns(20)
        ended.append(True)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before, Ctrl-C does not cancel the main task")
def test_run_lets_what_ctrl_c_cancels_clean_up(bridge_run):
    ended = []

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await clean_up(ended)

    with pytest.raises(KeyboardInterrupt):
        bridge_run(main)
    assert ended == [True]


def test_run_lets_what_was_dropped_clean_up(bridge_run):
    ended = []

    async def main():
        call = bridge.Call(clean_up(ended))
        assert call.poll() is None
        await turns()
        call.drop()

    bridge_run(main)
    assert ended == [True]


def test_run_does_not_wait_for_itself(bridge_run):
    """What was dropped is the main task."""

    async def main():
        (outer,) = asyncio.all_tasks() - {asyncio.current_task()}
        call = bridge.Call(outer)
        assert call.poll() is None
        await turns()
        call.drop()
        await asyncio.sleep(20)

    with pytest.raises(asyncio.CancelledError):
        bridge_run(main)


def test_run_ends_the_loop_as_asyncio_does(bridge_run):
    ended = []

    async def waiting():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("a task")

    async def generator():
        try:
            yield
        finally:
            await asyncio.sleep(0)
            ended.append("an asynchronous generator")

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(waiting())
        generating = generator()
        await generating.__anext__()
        thread = await loop.run_in_executor(None, threading.current_thread)
        await turns()
        return loop, task, thread, generating

    loop, task, thread, _ = bridge_run(main)
    assert ended == ["a task", "an asynchronous generator"]
    assert task.cancelled()
    assert not thread.is_alive()
    assert loop.is_closed()


def test_run_cancels_what_rust_has_left(bridge_run):
    gate = bridge.Gate()
    tasks = []

    async def main():
        tasks.append(asyncio.create_task(gate.wait("coroutine")))
        tasks.append(gate.wait("future"))
        await asyncio.sleep(0)
        gate.wait_for_starts(2)

    bridge_run(main)
    # It cancels tasks, and closes the loop on futures.
    assert tasks[0].cancelled()
    gate.wait_for_drops(2)


def test_run_twice(bridge_run):
    for _ in range(2):
        assert bridge_run(value) == "the value"


async def test_run_is_refused_inside_a_loop():
    made = []
    with pytest.raises(RuntimeError, match=r"cannot be called from a running event loop"):
        bridge.run(lambda: made.append(value()))
    assert made == []


def test_run_until_complete_gives_the_output(new_loop):
    loop = new_loop()
    for _ in range(2):
        assert bridge.run_until_complete(loop, value) == "the value"
    assert not loop.is_closed()


def test_run_until_complete_gives_the_same_exception(new_loop):
    loop = new_loop()
    error = ValueError("raised")
    with pytest.raises(ValueError) as caught:
        bridge.run_until_complete(loop, lambda: fail(error))
    assert caught.value is error
    assert bridge.run_until_complete(loop, value) == "the value"


def test_run_until_complete_says_when_the_loop_was_stopped(new_loop):
    loop = new_loop()

    async def stop():
        loop.stop()
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="stopped before"):
        bridge.run_until_complete(loop, stop)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))


def test_run_until_complete_refuses_a_closed_loop(new_loop):
    loop = new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        bridge.run_until_complete(loop, value)


def test_run_forever_runs_until_it_is_stopped(new_loop):
    loop = new_loop()
    gate = bridge.Gate()

    async def main():
        await gate.wait("coroutine")
        loop.stop()

    task = loop.create_task(main())
    gate.open(1)
    assert bridge.run_forever(loop) is None
    assert task.done() and not loop.is_closed()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_run_forever_gives_what_ends_the_process(new_loop, kind):
    loop = new_loop()
    task = loop.create_task(fail(kind("stop")))
    with pytest.raises(kind, match="stop"):
        bridge.run_forever(loop)
    with contextlib.suppress(kind):
        task.result()
