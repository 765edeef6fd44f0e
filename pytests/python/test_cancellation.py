"""Cancellation is dropping: whoever is told that it was cancelled can be sure that the Rust future is gone."""

import asyncio
import contextlib
import random
import sys
import threading

import bridge
import pytest
from support import coroutine_ways, in_task, interrupted_in, outcome_of, spawned_ways, turns

since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")

CANCELLED = "raised", asyncio.CancelledError, ""


async def end_unseen(gate):
    """Has a future that was just started end, without the loop knowing of it yet."""
    await asyncio.sleep(0)
    gate.open(1)
    gate.wait_for_drops(1)


@contextlib.asynccontextmanager
async def blocked_workers():
    """Keeps every worker of the runtime busy, so that nothing else is polled."""
    gate = bridge.Gate()
    futures = [gate.block("future") for _ in range(bridge.workers())]
    try:
        gate.wait_for_workers()
        yield
    finally:
        gate.open(len(futures))
        await asyncio.gather(*futures)


async def test_the_future_is_dropped_before_the_task_learns_of_it(way):
    gate = bridge.Gate()
    dropped = []

    async def awaiting():
        try:
            await gate.wait(way)
        except asyncio.CancelledError:
            dropped.append(gate.dropped)
            raise

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    assert task.cancel()
    assert await outcome_of(task) == CANCELLED
    assert dropped == [1]
    assert task.cancelled()


async def test_the_message_survives(way):
    gate = bridge.Gate()
    messages = []

    async def awaiting():
        try:
            await gate.wait(way)
        except asyncio.CancelledError as error:
            messages.append(error.args)

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    task.cancel("why")
    await task
    assert messages == [("why",)]


async def test_a_future_is_cancelled_by_itself():
    gate = bridge.Gate()
    future = gate.wait("future")
    gate.wait_for_starts(1)
    assert future.cancel("why")
    # It has not been dropped yet.
    assert not future.done()
    assert await outcome_of(future) == ("raised", asyncio.CancelledError, "why")
    assert gate.dropped == 1
    assert future.cancelled() and future.done()
    assert not future.cancel()


@coroutine_ways
async def test_a_future_that_a_coroutine_waits_for_is_cancelled(way):
    gate = bridge.Gate()
    coroutine = gate.wait(way)
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    # What the task waits for.
    assert task._fut_waiter.cancel("why")
    assert (await outcome_of(task))[:2] == CANCELLED[:2]
    assert task.cancelled()
    assert gate.dropped == 1


# When.


@coroutine_ways
async def test_before_the_task_has_started(way):
    gate = bridge.Gate()
    task = asyncio.create_task(gate.wait(way))
    assert task.cancel()
    assert await outcome_of(task) == CANCELLED
    assert (gate.started, gate.dropped) == (0, 1)


@pytest.mark.parametrize("way", ["coroutine", "future"])
async def test_before_the_first_poll(way):
    gate = bridge.Gate()
    async with blocked_workers():
        future = asyncio.ensure_future(gate.wait(way))
        await asyncio.sleep(0)
        assert future.cancel()
        # It is dropped on its runtime, which has no time.
        await turns()
        assert not future.done()
    assert await outcome_of(future) == CANCELLED
    assert (gate.started, gate.dropped) == (0, 1)


@spawned_ways
async def test_while_it_completes(way):
    gate = bridge.Gate()
    future = asyncio.ensure_future(gate.block(way))
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    assert future.cancel()
    gate.open(1)
    assert await outcome_of(future) == CANCELLED
    assert gate.dropped == 1


@spawned_ways
async def test_after_it_completed_and_before_that_was_delivered(way):
    gate = bridge.Gate()
    future = asyncio.ensure_future(gate.wait(way, "the value"))
    await end_unseen(gate)
    assert not future.done()
    assert future.cancel("why")
    assert (await outcome_of(future))[:2] == CANCELLED[:2]
    assert future.cancelled()


@spawned_ways
async def test_an_error_on_its_way_gives_way(way, reports):
    gate = bridge.Gate()
    future = asyncio.ensure_future(gate.fail(way, ValueError("raised")))
    await end_unseen(gate)
    assert future.cancel("why")
    assert (await outcome_of(future))[:2] == CANCELLED[:2]
    assert future.cancelled()
    del future
    assert reports.take() == []


@spawned_ways
async def test_only_who_has_heard_of_it_answers(way):
    """Another task of the same locals is told, and has time; but it is not its error."""
    gate = bridge.Gate()
    future = asyncio.ensure_future(gate.fail_beside_a_clean_up(way, ValueError("raised")))
    while not gate.started:
        await asyncio.sleep(0)
    gate.open(1)
    gate.wait_for_drops(1)
    assert future.cancel()
    assert await outcome_of(future) == CANCELLED


@spawned_ways
async def test_a_panic_on_its_way_gives_way(way):
    gate = bridge.Gate()
    future = asyncio.ensure_future(gate.panic(way))
    await end_unseen(gate)
    assert future.cancel()
    assert await outcome_of(future) == CANCELLED


@spawned_ways
async def test_whoever_tries_again_and_again_is_cancelled(way):
    gate = bridge.Gate()

    async def try_for_ever():
        while True:
            try:
                await gate.fail(way, ValueError("try again"))
            except ValueError:
                pass

    task = asyncio.ensure_future(try_for_ever())
    await end_unseen(gate)
    task.cancel()
    assert await outcome_of(asyncio.wait_for(task, 20)) == CANCELLED


@spawned_ways
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_does_not_give_way(new_loop, way, error):
    gate = bridge.Gate()

    async def main():
        future = asyncio.ensure_future(gate.fail(way, error()))
        await end_unseen(gate)
        assert future.cancel()
        return await outcome_of(future)

    loop = new_loop()
    task = loop.create_task(main())
    while not task.done():
        # A task that it ends has it go through the loop as well.
        with contextlib.suppress(error):
            loop.run_until_complete(task)
    assert task.result() == ("raised", error, "")


async def test_after_it_was_delivered(way):
    future = asyncio.ensure_future(bridge.value(way, 1, True))
    assert await future == 1
    assert not future.cancel()
    assert future.result() == 1


async def test_twice(way):
    gate = bridge.Gate()
    future = asyncio.ensure_future(gate.wait(way))
    await asyncio.sleep(0)
    assert future.cancel("one")
    assert future.cancel("two")
    assert (await outcome_of(future))[:2] == CANCELLED[:2]
    assert gate.dropped == 1
    assert not future.cancel()


async def test_the_last_message_counts():
    futures = [bridge.Gate().wait("future"), asyncio.ensure_future(asyncio.sleep(20))]
    await asyncio.sleep(0)
    for future in futures:
        future.cancel("one")
        future.cancel("two")
        assert (await outcome_of(future))[:2] == CANCELLED[:2]
    assert await outcome_of(futures[0]) == ("raised", asyncio.CancelledError, "two")


async def test_a_caught_cancellation_is_over(way):
    gate = bridge.Gate()

    async def awaiting():
        try:
            await gate.wait(way)
        except asyncio.CancelledError:
            return await bridge.value(way, "went on", True)

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "went on"
    assert not task.cancelled()


async def test_clean_up_may_await(way):
    gate = bridge.Gate()
    cleaned = []

    async def awaiting():
        try:
            await gate.wait(way)
        finally:
            cleaned.append(await bridge.value(way, "cleaned", True))

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    task.cancel()
    assert await outcome_of(task) == CANCELLED
    assert cleaned == ["cleaned"]


# By whom.


@since_3_11
async def test_a_task_group_cancels_siblings(way):
    gate = bridge.Gate()
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            siblings = [group.create_task(in_task(gate.wait(way))) for _ in range(3)]
            await asyncio.sleep(0)
            gate.wait_for_starts(3)
            group.create_task(in_task(bridge.fail(way, ValueError("failed"), True)))
    assert [str(error) for error in caught.value.exceptions] == ["failed"]
    assert all(sibling.cancelled() for sibling in siblings)
    assert gate.dropped == 3


@since_3_11
async def test_a_task_group_is_cancelled(way):
    gate = bridge.Gate()

    async def grouping():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(in_task(gate.wait(way)))

    task = asyncio.create_task(grouping())
    await turns()
    gate.wait_for_starts(3)
    task.cancel()
    assert await outcome_of(task) == CANCELLED
    assert gate.dropped == 3


async def test_a_shielded_one_is_cancelled_by_itself_only(way):
    gate = bridge.Gate()
    inner = asyncio.ensure_future(gate.wait(way))

    async def awaiting():
        await asyncio.shield(inner)

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    task.cancel()
    assert await outcome_of(task) == CANCELLED
    assert not inner.done() and gate.dropped == 0
    inner.cancel()
    assert await outcome_of(inner) == CANCELLED
    assert gate.dropped == 1


def test_asyncio_run_cancels_what_is_left(asyncio_run, way):
    gate = bridge.Gate()
    tasks = []

    async def main():
        for _ in range(3):
            tasks.append(asyncio.create_task(in_task(gate.wait(way))))
        await asyncio.sleep(0)
        gate.wait_for_starts(3)

    asyncio_run(main())
    assert all(task.cancelled() for task in tasks)
    assert gate.dropped == 3


# How many.


async def test_a_thousand_at_once(way):
    gate = bridge.Gate()
    futures = [asyncio.ensure_future(gate.wait(way)) for _ in range(1000)]
    await asyncio.sleep(0)
    for future in futures:
        future.cancel()
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert gate.dropped == 1000


async def test_a_race_with_completion_has_one_winner(way):
    chance = random.Random(42)
    for _ in range(20):
        gate = bridge.Gate()
        futures = [asyncio.ensure_future(gate.wait(way, "the value")) for _ in range(50)]
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda gate=gate: [gate.open(1) for _ in range(25)])
        thread.start()
        cancelled = [future for future in chance.sample(futures, 25) if future.cancel()]
        thread.join()
        gate.open(25)
        outcomes = dict(zip(futures, await asyncio.gather(*futures, return_exceptions=True)))
        assert gate.dropped == 50
        for future, outcome in outcomes.items():
            if future in cancelled:
                assert isinstance(outcome, asyncio.CancelledError)
            else:
                assert outcome == "the value"


# Unlike cancelling:


async def test_closing_does_not_wait_for_the_runtime():
    gate = bridge.Gate()
    async with blocked_workers():
        coroutine = gate.wait("coroutine")
        coroutine.send(None)
        coroutine.close()
        assert gate.dropped == 0
    gate.wait_for_drops(1)
    assert gate.started == 0


def test_an_interruption_of_the_request_goes_on(loop_class, new_loop, run):
    """Ctrl-C, while the timer is made that bounds the cancellation."""

    async def main():
        gate = bridge.Gate()
        future = gate.wait("future")
        loop.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            future.cancel()
        assert (await outcome_of(future))[:2] == CANCELLED[:2]

    loop = new_loop(interrupted_in(loop_class, "call_later"))
    run(main(), loop)


@pytest.mark.parametrize("wait", ["receive", "anext"])
def test_an_interruption_of_the_wake_up_goes_on(loop_class, new_loop, run, wait):
    """Ctrl-C, while the end is scheduled of a wait that has nothing to wait for."""

    async def main():
        sender, receiver = bridge.channel(1)
        stream = bridge.at_gate("runtime", bridge.Gate())
        task = asyncio.ensure_future(in_task(receiver.receive() if wait == "receive" else anext(stream)))
        await turns()
        loop.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            task.cancel()
        # asyncio's own future is settled then, too, and its task is never told.
        assert not loop.interrupted
        task._log_destroy_pending = False
        assert sender

    loop = new_loop(interrupted_in(loop_class, "call_soon"))
    run(main(), loop)
