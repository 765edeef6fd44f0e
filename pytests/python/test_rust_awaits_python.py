"""Rust awaits Python: from everywhere, whatever can be awaited."""

import asyncio
import contextvars
import gc
import sys
import threading
import time
import types
import warnings
import weakref

import bridge
import pytest
import uvloop
from support import interrupted_in, outcome_of, settle, spawned_ways, turns


# The stable ABI has no call that says whether a thread is attached: there `spawn` inherits from Rust's tasks only.
inherited_from_python = pytest.mark.xfail(
    bridge.STABLE_ABI, reason="spawn does not see the running loop by the stable ABI", strict=True
)

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")

CALLS = {
    "in the future itself": bridge.call,
    "in a scope": bridge.call_in_scope,
    "in a spawned task": bridge.call_in_spawned,
    "on a thread": bridge.call_on_thread,
    "with explicit locals": lambda way, awaitable: bridge.call_with_locals(
        way, awaitable, asyncio.get_running_loop(), contextvars.copy_context()
    ),
}


@pytest.fixture(params=CALLS.values(), ids=CALLS)
def call(request):
    return request.param


async def coroutine(value="the value", error=None):
    await asyncio.sleep(0)
    if error is not None:
        raise error
    return value


class Awaitable:
    def __await__(self):
        return coroutine().__await__()


@types.coroutine
def generator():
    yield
    return "the value"


def done_future():
    future = asyncio.get_running_loop().create_future()
    future.set_result("the value")
    return future


def future():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, "the value")
    return future


AWAITABLES = {
    "a coroutine": coroutine,
    "a future": future,
    "a future that is done": done_future,
    "a task": lambda: asyncio.ensure_future(coroutine()),
    "an object with __await__": Awaitable,
    "a generator-based coroutine": generator,
    "a coroutine of Rust": lambda: bridge.value("coroutine", "the value", True),
    "a future of Rust": lambda: bridge.value("future", "the value", True),
    "what gather returns": lambda: asyncio.gather(coroutine("the value")),
}


@pytest.mark.parametrize("make", AWAITABLES.values(), ids=AWAITABLES)
async def test_takes_what_can_be_awaited(way, call, make):
    expected = ["the value"] if make is AWAITABLES["what gather returns"] else "the value"
    assert await call(way, make()) == expected


async def test_gives_the_same_objects(way, call):
    value, error = object(), ValueError("raised")
    assert await call(way, coroutine(value)) is value
    with pytest.raises(ValueError) as caught:
        await call(way, coroutine(error=error))
    assert caught.value is error


async def test_the_traceback_shows_where_it_was_raised(way, call):
    with pytest.raises(ValueError) as caught:
        await call(way, coroutine(error=ValueError("raised")))
    names = [entry.name for entry in caught.traceback]
    assert names[0] == "test_the_traceback_shows_where_it_was_raised"
    assert names[-1] == "coroutine"


async def test_runs_as_a_task_of_the_loop(way, call):
    async def look():
        return asyncio.get_running_loop(), threading.get_ident(), asyncio.current_task()

    loop, thread, task = await call(way, look())
    assert loop is asyncio.get_running_loop()
    assert thread == threading.get_ident()
    assert isinstance(task, asyncio.Task) and task is not asyncio.current_task()


async def test_the_current_task_is_that_of_the_coroutine(way, call):
    async def look():
        before = asyncio.current_task()
        await asyncio.sleep(0)
        return before, asyncio.current_task(), before.get_coro()

    async def look_once():
        # A task that has ended at once has forgotten its coroutine.
        return asyncio.current_task().get_coro()

    ours = asyncio.current_task()
    looking = look()
    before, after, coroutine = await call(way, looking)
    assert before is after is not ours
    assert coroutine is looking
    # Where it can, a coroutine that does not suspend is run where it is found.
    looking = look_once()
    assert await call(way, looking) is looking
    assert asyncio.current_task() is ours


@spawned_ways
async def test_a_coroutine_that_does_not_suspend_takes_no_extra_turn(way):
    if sys.version_info < (3, 12) and not hasattr(asyncio.get_running_loop(), "_ready"):
        pytest.skip("before Python 3.12 only asyncio's own loops let a task start at once")
    tally = bridge.Tally()
    seen = []

    def look():
        # This turn of the loop is the next: Rust goes on without it.
        deadline = time.monotonic() + 20
        while tally.drops != [1] and time.monotonic() < deadline:
            time.sleep(0)
        seen.append(tally.drops)

    async def ready():
        asyncio.get_running_loop().call_soon(look)
        return "the value"

    assert await tally.run(way, 0, ready, 0, "value") == "the value"
    # Unless all of it was over before that turn.
    assert seen in ([], [[1]])


async def test_many_at_once(way, call):
    results = await asyncio.gather(*(call(way, coroutine(number)) for number in range(200)))
    assert results == list(range(200))


class Lazy:
    """A coroutine as soon as it is awaited: when it never is, nothing warns."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __await__(self):
        return self.function(*self.arguments).__await__()


@inherited_from_python
async def test_called_while_attached_inside_a_loop():
    done = asyncio.Event()
    results = []
    loop = asyncio.get_running_loop()

    def callback(result):
        results.append(result)
        loop.call_soon_threadsafe(done.set)

    error = ValueError("raised")
    for awaitable, expected in (Lazy(coroutine), "the value"), (Lazy(coroutine, None, error), error):
        bridge.spawn_from_python(awaitable, callback)
        await done.wait()
        done.clear()
        assert results.pop() is expected


@pytest.mark.skipif(not bridge.STABLE_ABI, reason="elsewhere it has the locals of the running loop")
async def test_by_the_stable_abi_a_task_spawned_from_python_has_no_locals():
    seen = asyncio.get_running_loop().create_future()
    awaitable = asyncio.get_running_loop().create_future()
    bridge.spawn_from_python(awaitable, lambda value: seen.get_loop().call_soon_threadsafe(seen.set_result, value))
    error = await seen
    assert type(error) is RuntimeError and "scope(locals, ...)" in str(error)


# What cannot be awaited.


class Nothing:
    pass


NOT_AWAITABLE = {
    "int": 1,
    "str": "text",
    "NoneType": None,
    "function": coroutine,
    "type": Awaitable,
    f"{__name__}.Nothing": Nothing(),
}


@pytest.mark.parametrize("kind", NOT_AWAITABLE)
async def test_names_the_type_of_what_is_not_awaitable(way, call, kind):
    with pytest.raises(TypeError) as caught:
        await call(way, NOT_AWAITABLE[kind])
    assert str(caught.value) == (
        f"'{kind}' object can't be awaited: "
        "into_future takes a coroutine, a future, a task or an object with __await__"
    )


async def test_an_await_method_that_fails(way, call):
    class Raising:
        def __await__(self):
            raise KeyError("no iterator")

    class Lying:
        def __await__(self):
            return 1

    assert await outcome_of(call(way, Raising())) == ("raised", KeyError, "'no iterator'")
    kind, error, message = await outcome_of(call(way, Lying()))
    assert (kind, error) == ("raised", TypeError)
    # Python's own words.
    assert (kind, error, message) == await outcome_of(asyncio.ensure_future(Lying()))


async def test_a_future_that_takes_no_callback(way, call):
    class Stubborn:
        _asyncio_future_blocking = False

        def get_loop(self, loop=asyncio.get_running_loop()):
            return loop

        def done(self):
            return False

        def add_done_callback(self, callback, *, context=None):
            raise ZeroDivisionError("no callbacks")

        def __await__(self):
            yield self

    async def fails():
        value = Stubborn()
        VARIABLE.set(value)
        assert await outcome_of(call(way, Stubborn())) == ("raised", ZeroDivisionError, "no callbacks")
        return weakref.ref(value)

    async def is_gone(reference):
        while reference() is not None:
            gc.collect()
            # What a worker has let go of, PyO3 drops when it is called by Python.
            bridge.workers()
            await asyncio.sleep(0.001)

    # A worker lets go of the context in its own time; the loop is not to keep it until it is closed.
    await asyncio.wait_for(is_gone(await asyncio.create_task(fails())), 10)


async def test_a_coroutine_that_was_awaited_before(way, call):
    awaitable = coroutine()
    await awaitable
    message = "cannot reuse already awaited coroutine"
    assert await outcome_of(call(way, awaitable)) == ("raised", RuntimeError, message)


async def test_a_future_of_another_loop(way, call, new_loop):
    elsewhere = new_loop().create_future()
    kind, error, message = await outcome_of(call(way, elsewhere))
    assert (kind, error) == ("raised", ValueError)
    assert "a different loop" in message


async def test_a_coroutine_that_ends_the_iteration(way, call):
    """asyncio itself makes of it what it must."""
    message = "coroutine raised StopIteration"
    assert await outcome_of(call(way, coroutine(error=StopIteration(1)))) == ("raised", RuntimeError, message)


async def test_without_locals_the_error_names_the_way_out():
    awaitable = done_future()
    with pytest.raises(RuntimeError) as caught:
        bridge.call_without_locals(awaitable)
    assert str(caught.value) == (
        "no event loop: not inside a coroutine, and no TaskLocals in scope; "
        "take TaskLocals::current(py) where a loop runs, and wrap the future in scope(locals, ...); "
        "where none runs, run(py, ...) has one"
    )


def test_outside_a_loop_the_error_names_the_way_out(loop_class):
    with pytest.raises(RuntimeError, match="no event loop: not inside a coroutine"):
        bridge.current_locals()


# Cancellation.


class Waiting:
    """A coroutine that waits, and what becomes of it."""

    def __init__(self):
        self.opened = asyncio.Event()
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.outcome = None

    async def wait(self):
        self.started.set()
        self.outcome = await outcome_of(self.opened.wait())
        self.ended.set()
        if self.outcome[0] == "raised":
            raise asyncio.CancelledError


async def test_dropping_the_rust_future_cancels_the_python_task(way):
    gate = bridge.Gate()
    waiting = Waiting()
    leaving = asyncio.ensure_future(bridge.leave(way, waiting.wait(), gate, False))
    await waiting.started.wait()
    gate.open(1)
    await leaving
    await waiting.ended.wait()
    assert waiting.outcome == ("raised", asyncio.CancelledError, "")


async def test_a_detached_python_task_runs_on(way):
    gate = bridge.Gate()
    waiting = Waiting()
    leaving = asyncio.ensure_future(bridge.leave(way, waiting.wait(), gate, True))
    await waiting.started.wait()
    gate.open(1)
    await leaving
    await turns()
    gc.collect()
    assert waiting.outcome is None
    waiting.opened.set()
    await waiting.ended.wait()
    assert waiting.outcome == ("returned", True)


async def test_the_garbage_collector_leaves_what_rust_awaits(way, reports):
    """The task and what it waits for have references to each other, and else only Rust's."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    async def waits():
        nonlocal event
        mine, event = event, weakref.ref(event)
        await mine.wait()
        return "waited"

    outcome = asyncio.ensure_future(bridge.call_and_poll_busily(way, waits()))
    while isinstance(event, asyncio.Event):
        await asyncio.sleep(0)
    for _ in range(200):
        gc.collect()
    loop.call_soon(event().set)
    assert await asyncio.wait_for(outcome, 20) == "waited"
    # It would have destroyed the task, which asyncio reports.
    assert reports.take() == []


async def test_cancelling_rust_that_awaits_python_cancels_python(way):
    # Not so where the Python task was given to another task of Rust, which runs on.
    waiting = Waiting()
    task = asyncio.ensure_future(bridge.call(way, waiting.wait()))
    await waiting.started.wait()
    task.cancel()
    assert (await outcome_of(task))[:2] == ("raised", asyncio.CancelledError)
    await waiting.ended.wait()
    assert waiting.outcome == ("raised", asyncio.CancelledError, "")


@spawned_ways
@pytest.mark.parametrize("detach", [False, True])
async def test_dropping_before_a_coroutine_of_rust_was_started(way, detach):
    """Likewise."""
    gate = bridge.Gate()
    leaving = bridge.leave(way, bridge.value("coroutine", 1, True), gate, detach)
    future = leaving.send(None) if way != "future" else leaving
    gate.wait_for_starts(1)
    gate.open(1)
    gate.wait_for_drops(1)
    await settle(future)
    if way != "future":
        leaving.close()
    await turns()
    # It would warn, and fail the test.
    gc.collect()


@spawned_ways
@pytest.mark.parametrize("detach", [False, True])
async def test_dropping_before_python_was_started(way, detach):
    """It never starts, and Python does not complain that it was never awaited; unless it was detached."""
    gate = bridge.Gate()
    started = asyncio.Event()

    async def start():
        started.set()

    leaving = bridge.leave(way, start(), gate, detach)
    future = leaving.send(None) if way != "future" else leaving
    # The loop has no turn from here to the drop.
    gate.wait_for_starts(1)
    gate.open(1)
    gate.wait_for_drops(1)
    await settle(future)
    if way != "future":
        leaving.close()
    await turns()
    gc.collect()
    assert started.is_set() is detach


async def test_a_python_task_that_is_cancelled_is_an_error_in_rust(way, call):
    inner = asyncio.ensure_future(asyncio.Event().wait())
    outer = asyncio.ensure_future(call(way, inner))
    await turns()
    inner.cancel("why")
    assert (await outcome_of(outer))[:2] == ("raised", asyncio.CancelledError)


async def test_a_task_that_others_wait_for_is_cancelled_unless_shielded(way):
    for shielded in False, True:
        gate = bridge.Gate()
        waiting = Waiting()
        shared = asyncio.ensure_future(waiting.wait())
        awaitable = asyncio.shield(shared) if shielded else shared
        leaving = asyncio.ensure_future(bridge.leave(way, awaitable, gate, False))
        await waiting.started.wait()
        gate.open(1)
        await leaving
        await turns()
        waiting.opened.set()
        await outcome_of(shared)
        assert shared.cancelled() is not shielded


async def test_python_may_refuse_to_be_cancelled(way, reports):
    gate = bridge.Gate()
    started, ended = asyncio.Event(), asyncio.Event()

    async def stubborn():
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            return "it went on"

    leaving = asyncio.ensure_future(bridge.leave(way, stubborn(), gate, False))
    await started.wait()
    gate.open(1)
    await leaving
    await ended.wait()
    await turns()
    assert reports.take() == []


# Rust futures that are not polled.


async def test_one_that_is_dropped_unpolled_starts_nothing():
    with pytest.warns(RuntimeWarning, match="coroutine 'coroutine' was never awaited"):
        bridge.drop_unpolled(coroutine())
    shared = asyncio.ensure_future(coroutine())
    bridge.drop_unpolled(shared)
    assert await shared == "the value"


async def test_one_that_is_detached_unpolled_starts():
    waiting = Waiting()
    bridge.detach_unpolled(waiting.wait())
    await waiting.started.wait()
    waiting.opened.set()
    await waiting.ended.wait()
    assert waiting.outcome == ("returned", True)


async def test_an_error_of_a_detached_one_is_reported_by_asyncio(reports):
    error = ValueError("detached")
    bridge.detach_unpolled(coroutine(error=error))
    await turns()
    while not reports:
        gc.collect()
        await asyncio.sleep(0)
    (report,) = reports.take()
    assert report["message"] == "Task exception was never retrieved"
    assert report["exception"] is error


def test_an_interruption_of_spawn_goes_on(loop_class, new_loop, run):
    # It is the first to ask for the loop.
    loop = new_loop(interrupted_in(loop_class, "is_closed"))

    async def main():
        awaitable = coroutine()
        loop.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            await bridge.call_in_spawned("eager", awaitable)
        awaitable.close()

    run(main(), loop)


async def test_one_that_is_detached_and_cannot_be_started_is_reported(reports):
    error = ValueError("no task")
    refused = coroutine()

    def refuse(loop, coroutine, **keywords):
        if coroutine is refused:
            coroutine.close()
            raise error
        return asyncio.Task(coroutine, loop=loop, **keywords)

    asyncio.get_running_loop().set_task_factory(refuse)
    bridge.detach_unpolled(refused)
    while not reports:
        await asyncio.sleep(0)
    (report,) = reports.take()
    assert report["exception"] is error


async def test_an_error_that_is_there_when_it_is_detached_is_reported(reports):
    """asyncio has nothing to report: Rust has taken the error from the task."""
    error = ValueError("detached too late")
    ended = asyncio.Event()

    async def fail():
        ended.set()
        raise error

    call = bridge.Call(fail())
    assert call.poll() is None
    await ended.wait()
    await turns()
    call.detach()
    while not reports:
        await asyncio.sleep(0)
    (report,) = reports.take()
    assert report["exception"] is error


async def test_a_cancellation_that_is_there_when_it_is_detached_is_not_reported(reports):
    waiting = Waiting()
    call = bridge.Call(waiting.wait())
    assert call.poll() is None
    await waiting.started.wait()
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await waiting.ended.wait()
    await turns()
    call.detach()
    # What was on its way to the loop is there before this.
    assert await bridge.value("coroutine", 1, True) == 1
    assert reports.take() == []


# Dropped, while the loop's thread starts it.


async def test_one_that_is_dropped_as_it_starts_is_cancelled_once():
    class Future(asyncio.Future):
        cancelled_times = 0

        def add_done_callback(self, *args, **keywords):
            super().add_done_callback(*args, **keywords)
            call.drop()

        def cancel(self, *args, **keywords):
            self.cancelled_times += 1
            return super().cancel(*args, **keywords)

    future = Future()
    call = bridge.Call(future)
    assert call.poll() is None
    while not future.cancelled_times:
        await asyncio.sleep(0)
    # Whatever was on its way to the loop is there before this.
    assert await bridge.value("coroutine", 1, True) == 1
    assert future.cancelled_times == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
async def test_a_generator_that_is_let_go_in_its_first_step_cleans_up():
    loop, cleaned_up = asyncio.get_running_loop(), asyncio.Event()
    if isinstance(loop, uvloop.Loop):
        pytest.skip("uvloop gives a task factory an argument that asyncio's does not take in each version")

    async def generate():
        try:
            yield 1
            stream.drop()
            while True:
                yield 2
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cleaned_up.set()

    stream = bridge.Stream(generate())
    stream.poll()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        await asyncio.wait_for(cleaned_up.wait(), 20)
    finally:
        loop.set_task_factory(None)


# Context variables.


async def read():
    await asyncio.sleep(0)
    return VARIABLE.get()


async def write():
    VARIABLE.set("from inside")
    await asyncio.sleep(0)
    return VARIABLE.get()


async def test_context_variables_are_seen(way, call):
    VARIABLE.set("from outside")
    assert await call(way, read()) == "from outside"


async def test_what_is_set_does_not_leak(way, call):
    VARIABLE.set("from outside")
    assert await call(way, write()) == "from inside"
    assert VARIABLE.get() == "from outside"
    assert await call(way, read()) == "from outside"


async def test_calls_at_the_same_time_do_not_share_what_they_set(way):
    VARIABLE.set("from outside")
    rust = bridge.call(way, asyncio.wait([asyncio.ensure_future(each) for each in (write(), read())]))
    done, _ = await rust
    assert {task.result() for task in done} == {"from inside", "from outside"}
    # These have the same locals.
    results = await asyncio.gather(bridge.call(way, write()), bridge.call(way, read()))
    assert results == ["from inside", "from outside"]


async def test_the_context_is_that_of_the_first_await():
    VARIABLE.set("when it was made")
    rust = bridge.call("coroutine", read())
    VARIABLE.set("when it was awaited")
    assert await rust == "when it was awaited"


async def test_the_context_is_that_of_the_start():
    VARIABLE.set("when it was started")
    rust = bridge.call("future", read())
    VARIABLE.set("when it was awaited")
    assert await rust == "when it was started"


async def test_an_explicit_context_is_used(way):
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "explicit")
    loop = asyncio.get_running_loop()
    assert await bridge.call_with_locals(way, read(), loop, context) == "explicit"
    assert await bridge.call_with_locals(way, write(), loop, context) == "from inside"
    # Each has a copy of it.
    assert context[VARIABLE] == "explicit"
    VARIABLE.set("implicit")
    assert await bridge.call_with_locals(way, read(), loop) == "implicit"


@inherited_from_python
async def test_a_spawned_task_has_the_context_of_the_caller():
    seen = asyncio.get_running_loop().create_future()
    VARIABLE.set("from outside")
    bridge.spawn_from_python(Lazy(read), lambda value: seen.get_loop().call_soon_threadsafe(seen.set_result, value))
    assert await seen == "from outside"


async def test_the_locals_are_the_running_loops():
    VARIABLE.set("current")
    loop, context = bridge.current_locals()
    assert loop is asyncio.get_running_loop()
    assert context[VARIABLE] == "current"
    VARIABLE.set("later")
    assert context[VARIABLE] == "current"


async def test_the_contexts_of_nested_calls(way):
    async def outer():
        VARIABLE.set("outer")
        inner = await bridge.call(way, write())
        return inner, VARIABLE.get()

    VARIABLE.set("outermost")
    assert await bridge.call(way, outer()) == ("from inside", "outer")
    assert VARIABLE.get() == "outermost"


# Nesting.

DEPTH = 50


class Nested:
    """Rust that awaits Python that awaits Rust, and so on."""

    def __init__(self, way, bottom):
        self.way, self.bottom = way, bottom
        self.entered = self.cancelled = 0

    async def python(self, depth):
        self.entered += 1
        try:
            if depth == 0:
                return await self.bottom()
            return await self.rust(depth)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def rust(self, depth=DEPTH):
        return bridge.nest(self.way, self.python, depth)


async def test_nests(way):
    nested = Nested(way, lambda: bridge.value(way, "the bottom", True))
    assert await nested.rust() == "the bottom"
    assert nested.entered == DEPTH


async def test_an_error_comes_through_all_levels(way):
    error = ValueError("from the bottom")
    nested = Nested(way, lambda: bridge.fail(way, error, True))
    with pytest.raises(ValueError) as caught:
        await nested.rust()
    assert caught.value is error
    names = [entry.name for entry in caught.traceback]
    assert names.count("python") == DEPTH


async def test_a_cancellation_goes_through_all_levels(way):
    gate = bridge.Gate()
    nested = Nested(way, lambda: gate.wait(way))
    task = asyncio.ensure_future(nested.rust())
    while nested.entered < DEPTH:
        await asyncio.sleep(0)
    task.cancel()
    assert (await outcome_of(task))[:2] == ("raised", asyncio.CancelledError)
    while nested.cancelled < DEPTH:
        await asyncio.sleep(0)
    assert gate.dropped == 1


# Other loops.


async def test_awaits_on_a_loop_in_another_thread(way, new_loop):
    other = new_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    # The other loop meets the bridge on its own thread.
    asyncio.run_coroutine_threadsafe(bridge.value("coroutine", None, True), other).result(20)

    async def look():
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.get_ident()

    results = await asyncio.gather(*(bridge.call_with_locals(way, look(), other) for _ in range(100)))
    assert results == 100 * [(other, thread.ident)]
    other.call_soon_threadsafe(other.stop)
    thread.join()


@inherited_from_python
def test_the_loop_closes_while_rust_awaits(new_loop):
    ended = threading.Event()
    results = []

    def callback(result):
        results.append(result)
        ended.set()

    async def main():
        bridge.spawn_from_python(never, callback)
        await turns(20)

    loop = new_loop()
    # A future, so that asyncio does not complain of a task that was destroyed.
    never = loop.create_future()
    loop.run_until_complete(main())
    loop.close()
    # The drain goes with the loop, which is not needed any more.
    gc.collect()
    assert ended.wait(20)
    assert str(results[0]) == (
        "the event loop is closed: the Python side of this future can't run any more; await it before the loop ends"
    )


@pytest.mark.parametrize(
    "make, name",
    [(coroutine, "coroutine"), (lambda: bridge.value("coroutine", 1, True), "bridge::ends::value")],
    ids=["of Python", "of Rust"],
)
@pytest.mark.parametrize("detach", [False, True])
def test_the_loop_closes_before_the_awaitable_has_started(loop_class, new_loop, detach, make, name):
    """The Rust side gets its error, so Python does not complain that nobody awaited it; unless it was detached."""
    if loop_class is uvloop.Loop:
        pytest.skip("uvloop looks for events once more after it was stopped")
    awaitable = make()

    def start():
        if detach:
            bridge.detach_unpolled(awaitable)
        else:
            # Rust is polled in place, and leaves the coroutine in the mailbox.
            calling.append(bridge.call("eager", awaitable))
            calling[0].send(None)

    calling = []
    loop = new_loop()
    loop.call_soon(start)
    # The loop does not look into its mailbox any more.
    loop.call_soon(loop.stop)
    loop.run_forever()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        gc.collect()
        if calling:
            calling.pop().close()
        del awaitable
        gc.collect()
    expected = [f"coroutine '{name}' was never awaited"] if detach else []
    assert [str(warning.message) for warning in caught] == expected


def test_a_closed_loop_is_refused(new_loop):
    loop = new_loop()
    loop.close()
    future = new_loop().create_future()
    with pytest.raises(RuntimeError, match="the event loop is closed"):
        bridge.call_with_locals("coroutine", future, loop)
