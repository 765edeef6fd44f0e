"""Loops that are stopped, closed, collected, re-entered, interrupted, watched, or run next to each other."""

import asyncio
import collections
import gc
import io
import logging
import os
import queue
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import bridge
import pytest
import uvloop
from support import coroutine_ways, in_task, interrupted_in, outcome, outcome_of, spawned_ways, turns


def started(loop, function, *arguments):
    """The future of what a function gives to be awaited, which has begun on the loop; that does not run any more."""

    async def start():
        future = asyncio.ensure_future(function(*arguments))
        await asyncio.sleep(0)
        return future

    return loop.run_until_complete(start())


# Stopped and run again.


@spawned_ways
def test_a_stopped_loop_goes_on(new_loop, way):
    loop = new_loop()
    gate = bridge.Gate()
    future = started(loop, gate.wait, way, "the value")
    # It ends while the loop does not run.
    gate.open(1)
    gate.wait_for_drops(1)
    assert not future.done()
    assert loop.run_until_complete(future) == "the value"


def test_a_loop_is_stopped_and_run_many_times(new_loop, way):
    loop = new_loop()
    gate = bridge.Gate()

    async def start():
        return [asyncio.ensure_future(gate.wait(way, number)) for number in range(20)]

    futures = loop.run_until_complete(start())
    for _ in range(20):
        gate.open(1)
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert loop.run_until_complete(asyncio.gather(*futures)) == list(range(20))


def test_a_loop_moves_to_another_thread(new_loop, way):
    loop = new_loop()
    results = []

    def run():
        async def main():
            return await bridge.value(way, threading.get_ident(), True)

        results.append(loop.run_until_complete(main()))

    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert results[-1] == thread.ident
    run()
    assert results[-1] == threading.get_ident()


# Closed, or forgotten.


def begun(way, awaitable):
    """Has it begun, with nobody who awaits it, so that asyncio has no pending task to complain of."""
    if way != "future":
        awaitable.send(None)
    return awaitable


async def pending(way, gate, count):
    awaitables = [begun(way, gate.wait(way)) for _ in range(count)]
    gate.wait_for_starts(count)
    return awaitables


def test_closing_a_loop_drops_what_is_pending_silently(new_loop, way, capfd, caplog):
    gate = bridge.Gate()
    loop = new_loop()
    awaitables = loop.run_until_complete(pending(way, gate, 10))
    loop.close()
    gate.wait_for_drops(10)
    del awaitables
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@spawned_ways
def test_what_ends_after_the_loop_was_closed_is_silent(new_loop, way, capfd, caplog):
    gate = bridge.Gate()
    loop = new_loop()

    async def start():
        awaitables = [begun(way, gate.block(way, ValueError("too late"))) for _ in range(bridge.workers())]
        gate.wait_for_workers()
        return awaitables

    awaitables = loop.run_until_complete(start())
    loop.close()
    gate.open(bridge.workers())
    gate.wait_for_drops(bridge.workers())
    del awaitables
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@spawned_ways
def test_what_ended_before_the_loop_was_closed_is_silent(new_loop, way, capfd, caplog):
    gate = bridge.Gate()
    loop = new_loop()
    awaitables = loop.run_until_complete(pending(way, gate, 10))
    gate.open(10)
    gate.wait_for_drops(10)
    # It is on its way to the loop, which does not take it any more.
    loop.close()
    del awaitables
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_future_of_a_closed_loop_can_be_asked_and_cancelled(new_loop):
    gate = bridge.Gate()
    loop = new_loop()
    (future,) = loop.run_until_complete(pending("future", gate, 1))
    loop.close()
    gate.wait_for_drops(1)
    assert not future.done()
    assert outcome(future.result)[1] is asyncio.InvalidStateError
    assert future.cancel()
    assert future.get_loop() is loop


@coroutine_ways
def test_a_coroutine_of_a_closed_loop_can_be_closed(new_loop, way):
    gate = bridge.Gate()
    loop = new_loop()
    (coroutine,) = loop.run_until_complete(pending(way, gate, 1))
    loop.close()
    coroutine.close()
    gate.wait_for_drops(1)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_loop_that_was_not_closed_is_collected(loop_class, way, cancelled):
    if issubclass(loop_class, uvloop.Loop):
        pytest.skip("uvloop keeps a loop that has run until it is closed")

    class Loop(loop_class):
        pass

    gate = bridge.Gate()
    loop = Loop()
    awaitables = loop.run_until_complete(pending(way, gate, 10))
    if cancelled and way == "future":
        assert all([awaitable.cancel() for awaitable in awaitables])
    dead = weakref.ref(loop)
    with warnings.catch_warnings():
        # Python complains of the loop itself, rightly.
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, awaitables
        gc.collect()
    assert dead() is None
    gate.wait_for_drops(10)


async def test_a_task_that_nobody_refers_to_is_kept_by_what_it_awaits(way):
    gate = bridge.Gate()
    ended = asyncio.Event()

    async def waiting():
        await gate.wait(way)
        ended.set()

    asyncio.create_task(waiting())
    await asyncio.sleep(0)
    gc.collect()
    gate.open(1)
    await ended.wait()


def test_file_descriptors_and_threads_do_not_add_up(asyncio_run, way):
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(os.listdir("/proc/self/task"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list a process's descriptors")

    async def main():
        return await bridge.value(way, 1, True)

    # The first starts what lasts: the runtime, the helper, and a loop is kept by the thread that saw it last.
    asyncio_run(main())
    deadline = time.monotonic() + 10
    while True:
        before = count()
        for _ in range(200):
            assert asyncio_run(main()) == 1
        after = count()
        # A worker may be about to let go of the last loop's handle; and what other tests have left may be gone by now.
        if after == before or time.monotonic() > deadline:
            break
    assert after == before


def test_loops_that_come_and_go_are_told_apart(asyncio_run, way):
    """A new loop is often where one that was closed has been."""

    async def main(number):
        future = asyncio.ensure_future(bridge.value(way, number, True))
        await asyncio.sleep(0)
        assert bridge.current_locals()[0] is asyncio.get_running_loop()
        return await future

    for number in range(50):
        assert asyncio_run(main(number)) == number


def test_loops_that_are_closed_by_another_thread_are_told_apart(new_loop, way):
    """The thread that ran a loop does not see that it was closed; the next may be where it was."""

    async def main(number):
        return await bridge.value(way, number, True), bridge.current_locals()[0] is asyncio.get_running_loop()

    with ThreadPoolExecutor(1) as thread:
        for number in range(50):
            loop = new_loop()
            assert thread.submit(loop.run_until_complete, main(number)).result(20) == (number, True)
            loop.close()
            del loop


# Side by side.


def test_two_loops_in_two_threads(new_loop, way):
    barrier = threading.Barrier(2)
    results = {}

    async def main(name):
        loop = asyncio.get_running_loop()
        for _ in range(20):
            barrier.wait(20)
            numbers = await asyncio.gather(*(bridge.value(way, (name, number), True) for number in range(50)))
            assert numbers == [(name, number) for number in range(50)]
            assert await bridge.call(way, where()) is loop
        results[name] = "done"

    async def where():
        return asyncio.get_running_loop()

    loops = {name: new_loop() for name in ("one", "two")}
    threads = [
        threading.Thread(target=loop.run_until_complete, args=(main(name),)) for name, loop in loops.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"one": "done", "two": "done"}


def test_a_loop_inside_a_loop_on_another_thread(new_loop, way):
    async def outer():
        loop = asyncio.get_running_loop()
        inner = await loop.run_in_executor(None, lambda: new_loop().run_until_complete(in_task_of(way, "inner")))
        return inner, await bridge.value(way, "outer", True)

    loop = new_loop()
    assert loop.run_until_complete(outer()) == ("inner", "outer")
    loop.run_until_complete(loop.shutdown_default_executor())


async def in_task_of(way, value):
    return await bridge.value(way, value, True)


# Many.


async def test_a_hundred_thousand_pending_at_once(way):
    count = 100_000
    gate = bridge.Gate()
    futures = [asyncio.ensure_future(gate.wait(way, number)) for number in range(count)]
    await asyncio.sleep(0)
    gate.wait_for_starts(count)
    assert gate.dropped == 0
    gate.open(count)
    assert await asyncio.gather(*futures) == list(range(count))
    assert gate.dropped == count


async def test_a_busy_mailbox_does_not_starve_the_loop():
    """Each delivery sends the next letter; what the loop has scheduled comes through all the same."""

    class Chain(asyncio.Future):
        deliveries = 0
        over = False

        def add_done_callback(self, *arguments, **keywords):
            Chain.deliveries += 1
            if not Chain.over and Chain.deliveries < 1000:
                bridge.detach_unpolled(Chain())

    bridge.detach_unpolled(Chain())
    while Chain.deliveries == 0:
        await asyncio.sleep(0)
    Chain.over = True
    in_one_turn = Chain.deliveries
    await turns()
    # Answers are delivered in the turn of what they answer, but not for ever: a drain looks no more after 16 letters.
    assert 1 < in_one_turn <= Chain.deliveries < 20


@pytest.mark.parametrize("way", ["coroutine", "future"])
async def test_many_tasks_that_keep_the_mailbox_busy(way):
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(0.05, over.set_result, None)

    async def busy():
        while not over.done():
            await bridge.value(way, None, False)

    await asyncio.gather(*(busy() for _ in range(50)))


async def test_futures_that_complete_at_once(way):
    for number in range(1000):
        assert await bridge.value(way, number, False) == number


# Re-entered.


class Ready(collections.deque):
    """The handles that are ready to be called. A loop that is run inside one of them takes those that it counted."""

    def popleft(self):
        if self:
            return super().popleft()
        nothing = asyncio.Handle(id, (None,), asyncio.get_running_loop())
        nothing.cancel()
        return nothing


@pytest.fixture
def run_nested(loop_class):
    """Runs the loop from within one of its tasks until something is done, as interactive environments do."""
    if not hasattr(loop_class, "_run_once"):
        pytest.skip("this kind of loop cannot be run inside itself")

    def run_nested(done):
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        asyncio.tasks._leave_task(loop, task)
        loop._ready = Ready(loop._ready)
        # With the timer the loop looks at the clock when nothing else happens.
        timer = loop.call_later(10, id, None)
        try:
            while not done():
                assert loop.time() < timer.when(), "what the nested loop waits for does not come"
                loop._run_once()
        finally:
            timer.cancel()
            asyncio.tasks._enter_task(loop, task)

    return run_nested


@spawned_ways
async def test_a_loop_inside_a_task_goes_on_with_what_the_task_was_woken_with(run_nested, way):
    """Two futures end at once; the task of the first runs the loop until the second has been seen."""
    gate = bridge.Gate()
    order = []

    async def first():
        await gate.wait(way)
        run_nested(lambda: "second" in order)
        order.append("first")

    async def second():
        await gate.wait(way)
        order.append("second")

    tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
    await asyncio.sleep(0)
    gate.wait_for_starts(2)
    gate.open(2)
    # Both are in the mailbox before the loop looks.
    gate.wait_for_drops(2)
    await asyncio.gather(*tasks)
    assert order == ["second", "first"]
    # The loop is still woken.
    assert await bridge.value(way, 1, True) == 1


async def test_a_loop_inside_a_task_is_woken_by_what_comes_meanwhile(run_nested, way):
    loop = asyncio.get_running_loop()
    gate = bridge.Gate()

    async def outer():
        await bridge.value(way, None, True)
        inner = asyncio.ensure_future(gate.wait(way, "from inside"))
        loop.call_soon(gate.open, 1)
        run_nested(inner.done)
        return inner.result()

    assert await asyncio.gather(*(outer() for _ in range(5))) == 5 * ["from inside"]
    assert await bridge.value(way, 1, True) == 1


async def test_a_loop_inside_a_loop_inside_a_loop(run_nested, way):
    async def deeper(depth):
        value = await bridge.value(way, depth, True)
        if depth:
            task = asyncio.ensure_future(deeper(depth - 1))
            run_nested(task.done)
            value += task.result()
        return value

    assert await deeper(5) == 15
    assert await bridge.value(way, 1, True) == 1


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="a thread has one current task there: asyncio refuses tasks of another loop"
)
async def test_another_loop_inside_a_task_has_its_own_futures(loop_class, way):
    """Which asyncio does not allow by itself."""

    async def inner():
        return await asyncio.wait_for(bridge.value(way, "inner", False), 10)

    async def outer():
        # The drain goes on with this task.
        await bridge.value(way, None, False)
        running = asyncio._get_running_loop()
        other = loop_class()
        asyncio._set_running_loop(None)
        try:
            return other.run_until_complete(inner())
        finally:
            other.close()
            asyncio._set_running_loop(running)

    assert await asyncio.create_task(outer()) == "inner"


async def test_the_running_loop_is_what_asyncio_says(loop_class):
    gate, running, other = bridge.Gate(), asyncio.get_running_loop(), loop_class()
    try:
        for _ in range(2):
            assert gate.wait("future", None).get_loop() is running
            asyncio._set_running_loop(other)
            assert gate.wait("future", None).get_loop() is other
            asyncio._set_running_loop(None)
            with pytest.raises(RuntimeError, match="no running event loop"):
                gate.wait("future", None)
            asyncio._set_running_loop(running)
    finally:
        asyncio._set_running_loop(running)
        other.close()


@pytest.fixture
def deliver_all(run_nested):
    """Has a loop inside a task deliver what has been posted: letters come in order, and this posts one more."""

    def deliver_all():
        last = asyncio.ensure_future(in_task(bridge.value("coroutine", None, True)))
        run_nested(last.done)

    return deliver_all


async def test_a_future_is_woken_while_it_is_polled_first(deliver_all):
    await asyncio.wait_for(bridge.called_while_polled("local", deliver_all), 10)


async def test_a_stream_is_woken_while_it_is_polled(deliver_all):
    stream = bridge.called_while_streamed("local", deliver_all, 4)
    for _ in range(2):
        assert await asyncio.wait_for(anext(stream), 10) is None


async def test_python_that_rust_awaits_runs_inside_a_nested_loop(run_nested, way):
    async def python():
        await asyncio.sleep(0)
        return "from Python"

    async def outer():
        await bridge.value(way, None, True)
        task = asyncio.ensure_future(in_task(bridge.call(way, python())))
        run_nested(task.done)
        return task.result()

    assert await outer() == "from Python"


# Closed.


@pytest.mark.parametrize("ends", ["closed", "cancelled"])
def test_a_future_that_wakes_itself_when_it_is_dropped(new_loop, way, ends):
    loop = new_loop()
    future = started(loop, bridge.wakes_when_dropped, way)
    if ends == "cancelled":
        future.cancel()
        assert loop.run_until_complete(outcome_of(future))[1] is asyncio.CancelledError
    elif isinstance(future, asyncio.Task):
        # Nobody is told of it.
        future._log_destroy_pending = False
    loop.close()


def test_what_panics_as_the_loop_is_closed_keeps_nobody_waiting(new_loop):
    """A result whose drop panics, and behind it in the queue what Rust waits for."""
    loop = new_loop()
    gate = bridge.Gate()

    async def start():
        return bridge.end_with_bomb("future", gate), [bridge.Call(asyncio.sleep(0)) for _ in range(3)]

    bomb, calls = loop.run_until_complete(start())
    gate.open(1)
    gate.wait_for_drops(1)
    for call in calls:
        assert call.poll() is None
    loop.close()
    for call in calls:
        with pytest.raises(RuntimeError, match="the event loop is closed"):
            call.poll()
    assert not bomb.done()


# Interrupted.


def test_an_interruption_of_a_delivery_leaves_the_rest_to_the_next(loop_class, new_loop, way):
    """Ctrl-C, in the Python code that a delivery begins with."""

    loop = new_loop(interrupted_in(loop_class, "get_debug"))
    gate = bridge.Gate()
    future = started(loop, gate.wait, way, "the value")
    gate.open(1)
    gate.wait_for_drops(0 if way == "local" else 1)
    loop.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(future)
    loop.call_later(10, future.cancel)
    assert loop.run_until_complete(future) == "the value"


@spawned_ways
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_goes_through_and_the_rest_is_delivered(new_loop, way, kind):
    loop = new_loop()
    gate = bridge.Gate()
    results = []

    async def waiting(number):
        results.append(await gate.wait(way, number))

    async def interrupting():
        await gate.wait(way)
        raise kind("stop")

    async def start():
        tasks = [asyncio.create_task(waiting(0)), asyncio.create_task(interrupting())]
        tasks += [asyncio.create_task(waiting(number)) for number in range(1, 10)]
        await asyncio.sleep(0)
        gate.wait_for_starts(11)
        return tasks

    tasks = loop.run_until_complete(start())
    # One batch has all of them.
    gate.open(11)
    gate.wait_for_drops(11)
    with pytest.raises(kind, match="stop"):
        loop.run_forever()
    # A loop that is run again delivers the rest, without another wake.
    others = [task for task in tasks if task is not tasks[1]]
    loop.run_until_complete(asyncio.wait(others))
    assert sorted(results) == list(range(10))
    assert isinstance(tasks[1].exception(), kind)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_one_that_rust_gives_goes_through_too(new_loop, way, kind):
    error = kind("from Rust")

    async def main():
        await bridge.fail(way, error, True)

    loop = new_loop()
    with pytest.raises(kind) as caught:
        loop.run_until_complete(main())
    assert caught.value is error
    assert loop.run_until_complete(in_task_of(way, 1)) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_loop_is_closed_while_what_ended_it_is_still_on_its_way(new_loop, way, kind):
    """What goes through the bridge holds, by its traceback, what asyncio called."""
    loop = new_loop()
    gate = bridge.Gate()
    awaitables = loop.run_until_complete(pending(way, gate, 1))

    async def main():
        await bridge.fail("coroutine", kind("stop"), True)

    with pytest.raises(kind):
        loop.run_until_complete(main())
    # pytest has the exception, and with it the frames.
    loop.close()
    gate.wait_for_drops(1)
    assert awaitables


def test_a_loop_is_closed_though_its_own_code_was_interrupted(loop_class, new_loop, way):
    """Ctrl-C where asyncio has in its frames what is readable."""
    if loop_class is not asyncio.SelectorEventLoop:
        pytest.skip("it is no Python code that looks what is readable")

    class Loop(loop_class):
        def _process_events(self, event_list):
            if event_list:
                raise KeyboardInterrupt
            super()._process_events(event_list)

    loop = new_loop(Loop)
    gate, ready = bridge.Gate(), bridge.Gate()

    async def start():
        return await pending(way, gate, 1), await pending("future", ready, 1)

    awaitables = loop.run_until_complete(start())
    ready.open(1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.close()
    gate.wait_for_drops(1)
    assert awaitables


# Watched.


async def test_debug_mode(way):
    asyncio.get_running_loop().set_debug(True)
    gate = bridge.Gate()
    waiting = [asyncio.ensure_future(gate.wait(way, number)) for number in range(10)]
    await asyncio.sleep(0)
    gate.open(10)
    assert await asyncio.gather(*waiting) == list(range(10))
    assert await outcome_of(bridge.fail(way, ValueError("raised"), True)) == ("raised", ValueError, "raised")

    async def python():
        await asyncio.sleep(0)
        return "from Python"

    assert await bridge.call(way, python()) == "from Python"
    cancelled = asyncio.ensure_future(gate.wait(way))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await outcome_of(cancelled))[:2] == ("raised", asyncio.CancelledError)


async def test_the_report_of_a_slow_callback_names_the_task(way, caplog):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.02

    async def slow():
        await bridge.value(way, None, True)
        # It is slowness that is tested.
        time.sleep(0.05)

    for _ in range(10):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "asyncio"):
            await asyncio.create_task(slow(), name="the slow one")
        messages = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
        assert any("the slow one" in message for message in messages)
        # On a machine that stalls anything is slow, but not each time.
        if not any("Drain" in message for message in messages):
            return
    pytest.fail("a drain is slow each time")


async def test_the_stack_of_a_task_that_awaits_rust_is_that_of_its_python(way):
    gate = bridge.Gate()

    async def outer():
        await inner()

    async def inner():
        await gate.wait(way)

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    # As for a task that awaits a future, it has the frame of the outermost coroutine only.
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    text = io.StringIO()
    task.print_stack(file=text)
    assert "await inner()" in text.getvalue()
    gate.open(1)
    await task


@coroutine_ways
async def test_an_error_of_a_task_that_nobody_awaits_is_reported_once_with_the_rust_function(reports, way):
    error = ValueError("unretrieved")
    asyncio.ensure_future(bridge.fail(way, error, True))
    while not reports:
        gc.collect()
        await asyncio.sleep(0)
    (report,) = reports.take()
    assert report["exception"] is error
    assert "bridge::ends::fail" in repr(report["future"])


async def test_the_current_task_is_right(way):
    gate = bridge.Gate()

    async def looking():
        await gate.wait(way)
        return asyncio.current_task()

    tasks = [asyncio.create_task(looking()) for _ in range(10)]
    await asyncio.sleep(0)
    gate.open(10)
    assert await asyncio.gather(*tasks) == tasks


@spawned_ways
async def test_tasks_are_resumed_in_the_order_of_the_ends(way):
    # A runtime of one thread has sent the one when it comes to the next.
    runtime = bridge.Runtime()
    gates = [bridge.Gate() for _ in range(10)]
    order = []

    async def waiting(number):
        await runtime.wait(way, gates[number])
        order.append(number)

    tasks = [asyncio.create_task(waiting(number)) for number in range(10)]
    await asyncio.sleep(0)
    for gate in gates:
        gate.wait_for_starts(1)
    ends = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    for number in ends:
        gates[number].open(1)
        gates[number].wait_for_drops(1)
    await asyncio.gather(*tasks)
    assert order == ends
    runtime.shut_down()


async def test_a_callback_has_no_current_task():
    tasks = []
    future = bridge.value("future", 1, True)
    future.add_done_callback(lambda _: tasks.append(asyncio.current_task()))
    await future
    await turns()
    assert tasks == [None]


# Loops that are used from another thread than theirs.


@pytest.mark.parametrize("times", [1, 20])
def test_a_loop_that_runs_elsewhere_is_used(new_loop, times):
    """It waits for no event that would have it look for what others have added to it."""
    loop = new_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()

    async def main(number):
        await asyncio.sleep(0)
        return number, threading.current_thread()

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(bridge.call_from_afar, main(number), loop) for number in range(times)]
        assert [call.result(30) for call in calls] == [(number, running) for number in range(times)]
    loop.call_soon_threadsafe(loop.stop)
    running.join()


@pytest.mark.parametrize("runs", [True, False])
def test_a_loop_is_not_touched_by_another_thread(loop_class, new_loop, runs):
    """Nor is one that does not run yet: its own thread may start it at any time."""
    threads, asked = set(), threading.Event()

    class Loop(loop_class):
        def call_later(self, *arguments, **keywords):
            threads.add(threading.current_thread())
            return super().call_later(*arguments, **keywords)

        def call_soon_threadsafe(self, *arguments, **keywords):
            asked.set()
            return super().call_soon_threadsafe(*arguments, **keywords)

    if loop_class.add_reader is not asyncio.AbstractEventLoop.add_reader:

        class Loop(Loop):
            def add_reader(self, *arguments):
                threads.add(threading.current_thread())
                return super().add_reader(*arguments)

    loop = new_loop(Loop)
    running = threading.Thread(target=loop.run_forever, daemon=True)
    if runs:
        running.start()
    results = queue.SimpleQueue()
    call = threading.Thread(
        target=lambda: results.put(bridge.call_from_afar(asyncio.sleep(0, "slept"), loop)), daemon=True
    )
    call.start()
    assert asked.wait(10)
    if not runs:
        running.start()
    assert results.get(timeout=30) == "slept"
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    assert threads == {running}


# Loops that do not do what the bridge needs.


@pytest.mark.parametrize("takes_files", [True, False])
def test_a_loop_that_keeps_only_the_numbers_of_what_it_watches(loop_class, new_loop, way, takes_files):
    class Numbers(loop_class):
        def add_reader(self, fd, callback, *args):
            if not takes_files and not isinstance(fd, int):
                raise TypeError(fd)
            return super().add_reader(fd if isinstance(fd, int) else fd.fileno(), callback, *args)

    loop = new_loop(Numbers)
    gate = bridge.Gate()
    awaitables = loop.run_until_complete(pending(way, gate, 1))
    assert loop.run_until_complete(in_task(bridge.value("coroutine", 1, True))) == 1
    assert gate.dropped == 0
    loop.close()
    gate.wait_for_drops(1)
    assert awaitables


def test_an_error_of_add_reader_reaches_whoever_awaits(loop_class, new_loop, way):
    class Broken(loop_class):
        def add_reader(self, fd, callback, *args):
            raise OSError("too many descriptors")

    gate = bridge.Gate()
    loop = new_loop(Broken)

    async def main():
        await gate.wait(way)

    with pytest.raises(OSError, match="too many descriptors"):
        loop.run_until_complete(main())
    gate.wait_for_drops(1)


def test_a_loop_that_takes_no_attributes_is_refused_by_name(loop_class, new_loop, way):
    class Sealed(loop_class):
        sealed = False

        def __setattr__(self, name, value):
            if self.sealed and not hasattr(self, name):
                raise AttributeError(name)
            super().__setattr__(name, value)

    async def main():
        await bridge.value(way, 1, True)

    loop = new_loop(Sealed)
    loop.sealed = True
    with pytest.raises(RuntimeError, match="Sealed.* takes no attributes, which the Rust bridge needs") as caught:
        loop.run_until_complete(main())
    assert isinstance(caught.value.__cause__, AttributeError)
