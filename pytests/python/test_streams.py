"""What Python code sees of a Rust stream is what it sees of its own asynchronous generators; and the way back."""

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import sys
import threading
import warnings
import weakref

import bridge
import pytest
from support import drops, in_task, outcome, outcome_of, settle, turns

PLACES = ["runtime", "local"]


@pytest.fixture(params=PLACES)
def place(request):
    """Where a stream is polled."""
    return request.param


async def python_numbers(count):
    for number in range(count):
        if number % 3 == 0:
            await asyncio.sleep(0)
        yield number


@pytest.fixture(params=["python", *PLACES])
def numbers(request):
    """Makes an asynchronous iterator over the first numbers; Python's own is what the others are to be like."""
    if request.param == "python":
        return python_numbers
    return lambda count: bridge.numbers(request.param, count, False)


async def test_it_is_an_asynchronous_generator(numbers):
    iterator = numbers(3)
    assert isinstance(iterator, collections.abc.AsyncGenerator)
    assert not isinstance(iterator, collections.abc.Awaitable)
    assert aiter(iterator) is iterator
    assert not inspect.isawaitable(iterator)
    step = iterator.__anext__()
    assert inspect.isawaitable(step)
    assert asyncio.iscoroutine(step)
    assert await step == 0
    await iterator.aclose()


async def test_loops_and_comprehensions(numbers):
    assert [number async for number in numbers(10)] == list(range(10))
    seen = []
    async for number in numbers(10):
        if number == 5:
            break
        seen.append(number)
    else:
        pytest.fail("it was left early")
    assert seen == [0, 1, 2, 3, 4]
    async for _ in numbers(0):
        pytest.fail("there is nothing")
    else:
        seen.append("else")
    assert seen[-1] == "else"


async def test_anext(numbers):
    iterator = numbers(2)
    assert await anext(iterator) == 0
    assert await anext(iterator, "default") == 1
    assert await anext(iterator, "default") == "default"
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_asend(numbers):
    iterator = numbers(3)
    assert await outcome_of(iterator.asend(1)) == (
        "raised",
        TypeError,
        "can't send non-None value to a just-started async generator",
    )
    assert await iterator.asend(None) == 0
    assert await iterator.asend("ignored") == 1
    assert await iterator.asend(None) == 2
    assert (await outcome_of(iterator.asend(None)))[1] is StopAsyncIteration
    closed = numbers(3)
    await closed.aclose()
    assert (await outcome_of(closed.asend("ignored")))[1] is StopAsyncIteration


@pytest.mark.parametrize("kind", [StopAsyncIteration, StopIteration])
@pytest.mark.parametrize("position", range(3))
async def test_a_conversion_cannot_end_the_iteration(place, kind, position):
    def ends():
        raise kind

    iterator = bridge.of_functions(place, [int] * position + [ends] + [int] * 3)
    for _ in range(position):
        assert await anext(iterator) == 0
    with pytest.raises(RuntimeError, match=f"raised {kind.__name__}") as raised:
        await anext(iterator)
    assert type(raised.value.__cause__) is kind


async def test_an_error_that_nobody_asks_for_keeps_nothing_alive(place):
    """Items are converted ahead; the traceback of an error has the frame of whoever asked for one."""

    def fail():
        raise KeyError("nobody asks for it")

    async def leave(close):
        iterator = bridge.of_functions(place, [int] * 3 + [fail] + [int] * 3)
        assert await anext(iterator) == 0
        # By now more are there.
        await asyncio.sleep(0.01)
        assert await anext(iterator) == 0
        if close:
            await iterator.aclose()
        return weakref.ref(iterator)

    for close in [False, True]:
        alive = await leave(close)
        gc.collect()
        assert alive() is None


# As Python 3.13 says.
@pytest.mark.filterwarnings("ignore:coroutine method 'athrow' of .* was never awaited:RuntimeWarning")
async def test_an_error_that_is_thrown_keeps_nothing_alive(numbers):
    def leave():
        iterator = numbers(3)
        try:
            raise KeyError("thrown")
        except KeyError as error:
            step = iterator.athrow(error)
        # The traceback has the frame, which has the step, which has the iterator.
        assert step is not None
        return weakref.ref(iterator)

    alive = leave()
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("kind", [StopAsyncIteration, StopIteration])
async def test_what_is_thrown_cannot_end_the_iteration(numbers, kind):
    iterator = numbers(3)
    await anext(iterator)
    error = kind()
    with pytest.raises(RuntimeError, match=f"async generator raised {kind.__name__}") as raised:
        await iterator.athrow(error)
    assert raised.value.__cause__ is error


async def test_athrow(numbers):
    iterator = numbers(3)
    await anext(iterator)
    error = KeyError("thrown")
    with pytest.raises(KeyError) as raised:
        await iterator.athrow(error)
    assert raised.value is error
    assert await anext(iterator, "the end") == "the end"
    # There is nothing left that could raise it.
    assert await iterator.athrow(KeyError("thrown")) is None
    iterator = numbers(3)
    assert (await outcome_of(iterator.athrow(KeyError("unstarted"))))[1] is KeyError
    assert await anext(iterator, "the end") == "the end"
    iterator = numbers(3)
    await anext(iterator)
    assert (await outcome_of(iterator.athrow(GeneratorExit())))[1] is GeneratorExit


async def test_aclose(numbers):
    iterator = numbers(3)
    assert await iterator.aclose() is None
    assert await anext(iterator, "the end") == "the end"
    iterator = numbers(3)
    await anext(iterator)
    assert await iterator.aclose() is None
    assert await iterator.aclose() is None
    assert await anext(iterator, "the end") == "the end"
    async with contextlib.aclosing(numbers(3)) as iterator:
        assert await anext(iterator) == 0
    assert await anext(iterator, "the end") == "the end"


async def test_an_awaitable_serves_once(numbers):
    iterator = numbers(10)
    for step in [iterator.__anext__(), iterator.asend(None), iterator.aclose()]:
        await step
        kind, error, message = await outcome_of(step)
        assert (kind, error) == ("raised", RuntimeError)
        assert message.startswith("cannot reuse")


async def test_what_takes_a_coroutine(numbers):
    iterator = numbers(10)
    assert await asyncio.create_task(iterator.__anext__()) == 0
    assert await asyncio.wait_for(iterator.__anext__(), 10) == 1
    assert await asyncio.gather(iterator.__anext__()) == [2]
    assert await asyncio.shield(asyncio.ensure_future(anext(iterator))) == 3
    await iterator.aclose()


async def test_a_local_stream_does_not_ask_itself():
    outcomes = []

    def ask():
        outcomes.append(outcome(iterator.__anext__().send, None))

    iterator = bridge.called_while_streamed("local", ask, 2)
    assert await iterator.__anext__() is None
    assert outcomes == [("raised", RuntimeError, "anext(): asynchronous generator is already running")]
    assert await iterator.__anext__() is None


async def test_awaitables_that_are_kept_are_told_apart(place):
    """The iterator uses an awaitable again only if nobody else has it."""
    iterator = bridge.numbers(place, 10, True)
    first = iterator.__anext__()
    assert await first == 0
    second = iterator.__anext__()
    third = iterator.__anext__()
    assert len({id(first), id(second), id(third)}) == 3
    assert await third == 1
    assert await second == 2
    assert (await outcome_of(first))[1] is RuntimeError
    del first, second, third
    assert [number async for number in iterator] == list(range(3, 10))


async def test_a_cancelled_wait_loses_nothing(place):
    gate = bridge.Gate()
    iterator = bridge.at_gate(place, gate)
    for number in range(5):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.001)
        task = asyncio.ensure_future(anext(iterator))
        await turns()
        task.cancel()
        gate.open(1)
        await asyncio.wait([task])
        assert task.cancelled()
        assert await anext(iterator) == number
    await iterator.aclose()
    assert gate.dropped == 1


async def test_an_iterator_that_is_garbage_drops_its_stream(place):
    gate = bridge.Gate()
    iterator = bridge.at_gate(place, gate)
    gate.open(1)
    assert await anext(iterator) == 0
    alive = weakref.ref(iterator)
    del iterator
    assert alive() is None
    await drops(gate, 1)


async def test_a_task_that_is_cancelled_drops_the_stream(place):
    gate = bridge.Gate()

    async def wait():
        async for _ in bridge.at_gate(place, gate):
            pass

    task = asyncio.ensure_future(wait())
    await turns()
    task.cancel()
    del task
    await drops(gate, 1)


def test_the_end_of_asyncio_run_closes_streams(place):
    gate = bridge.Gate()
    kept = []

    async def main():
        iterator = bridge.at_gate(place, gate)
        kept.append(iterator)
        gate.open(1)
        assert await anext(iterator) == 0
        assert gate.dropped == 0

    asyncio.run(main())
    assert gate.dropped == 1


def test_it_needs_a_loop(place):
    iterator = bridge.numbers(place, 3, False)
    step = iterator.__anext__()
    with pytest.raises(RuntimeError, match="must be awaited inside one of asyncio's, for instance by asyncio.run"):
        step.send(None)

    async def collect():
        return [number async for number in iterator]

    # Who does what the error says has all of it.
    assert asyncio.run(collect()) == [0, 1, 2]


@pytest.mark.parametrize("operation", ["__anext__", "aclose"])
async def test_a_local_stream_that_another_thread_was_refused_goes_on(operation):
    iterator = bridge.numbers("local", 3, True)
    assert await anext(iterator) == 0

    async def elsewhere():
        return await outcome_of(getattr(iterator, operation)())

    kind, error, message = await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    assert (kind, error) == ("raised", RuntimeError) and "thread" in message
    assert [number async for number in iterator] == [1, 2]


def test_representations(place):
    iterator = bridge.numbers(place, 3, True)
    assert repr(iterator).startswith("<async iterator object ")
    assert repr(iterator.__anext__()).startswith("<awaitable __anext__() of ")
    assert iterator.__name__ and iterator.__qualname__.endswith(iterator.__name__)
    assert iterator.ag_running is False


async def test_items_leave_nothing_behind(place):
    """As the memory of the process shows it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("there is no /proc")

    def memory():
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    async def count(number):
        return sum([1 async for _ in bridge.numbers(place, number, True)])

    assert await count(100_000) == 100_000
    before = memory()
    for _ in range(5):
        async for _ in bridge.numbers(place, 100_000, True):
            pass
    # Sixteen bytes for each item would be twice as much.
    assert memory() - before < 4 << 20


async def test_python_to_rust():
    assert await bridge.total(python_numbers(1_000)) == sum(range(1_000))
    # A Rust stream, by way of Python.
    assert await bridge.total(bridge.numbers("runtime", 1_000, False)) == sum(range(1_000))

    async def fail():
        yield 1
        raise KeyError("raised")

    with pytest.raises(KeyError, match="raised"):
        await bridge.total(fail())
    with pytest.raises(TypeError, match="'list' object is not an asynchronous iterable"):
        bridge.total([])


class Iterates:
    """An asynchronous iterator by functions, which raise what they must not."""

    def __init__(self, raises, where, suspends):
        self.raises, self.where, self.suspends = raises, where, suspends

    def __aiter__(self):
        self.fail("__aiter__")
        return self

    def __anext__(self):
        if not self.suspends:
            self.fail("__anext__")
        return self.next()

    async def next(self):
        if not self.suspends:
            return 1
        await asyncio.sleep(0)
        self.suspends = False
        return 1

    def fail(self, where):
        if where == self.where:
            raise self.raises


@pytest.mark.parametrize("where", ["__aiter__", "__anext__"])
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("python_tasks", [False, True])
async def test_an_iterable_that_raises_stop_iteration(where, suspends, python_tasks):
    """As it is for `async for`, whose coroutine cannot raise it either."""

    async def python():
        async for _ in Iterates(StopIteration(5), where, suspends):
            pass

    if python_tasks:
        asyncio.get_running_loop().set_task_factory(
            lambda loop, coroutine, **keywords: asyncio.tasks._PyTask(coroutine, loop=loop, **keywords)
        )
    try:
        expected = await outcome_of(python())
        assert expected == ("raised", RuntimeError, "coroutine raised StopIteration")
        assert await outcome_of(bridge.total(Iterates(StopIteration(5), where, suspends))) == expected
    finally:
        asyncio.get_running_loop().set_task_factory(None)


async def test_an_iterable_whose_aclose_raises_stop_iteration():
    class Iterable:
        def __aiter__(self):
            return self

        async def __anext__(self):
            return 1

        def aclose(self):
            raise StopIteration

    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))
    # Rust drops the stream while the task that iterates is at any point.
    for _ in range(200):
        assert await bridge.take(Iterable(), 1, 1) == [1]
        # The task ends, and nobody asks for what it has raised.
        while not reports:
            await asyncio.sleep(0)
        assert [str(error) for error in reports] == ["coroutine raised StopIteration"]
        reports.clear()


async def test_an_iterable_whose_awaitables_are_none():
    class Wrong:
        def __aiter__(self):
            return self

        def __anext__(self):
            return self

        def __await__(self):
            return 5

    async def python():
        async for _ in Wrong():
            pass

    kind, error, message = await outcome_of(python())
    assert (kind, error) == ("raised", TypeError)
    kind, error, message = await outcome_of(bridge.total(Wrong()))
    assert (kind, error) == ("raised", TypeError)
    assert message == "__await__() returned non-iterator of type 'int'"


@pytest.mark.parametrize("capacity", [1, 100])
async def test_a_stream_that_is_dropped_runs_finally(capacity):
    ended = asyncio.Event()

    async def generate():
        task = asyncio.current_task()
        try:
            while True:
                yield task
        finally:
            assert asyncio.current_task() is task
            await turns()
            ended.set()

    items = await bridge.take(generate(), 3, capacity)
    assert len(items) == 3 and len(set(items)) == 1
    await ended.wait()
    await asyncio.wait(set(items))


async def test_timeouts_work_in_a_generator():
    async def generate():
        for number in range(10):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.sleep(3600), 0.001)
            yield number

    assert await bridge.total(generate()) == 45


def at_hand(awaitable):
    """Awaits what need not wait, without a loop."""
    with pytest.raises(StopIteration) as stop:
        awaitable.send(None)
    return stop.value.value


async def test_a_channel():
    sender, receiver = bridge.channel(2)
    await sender.send("first")
    await sender.send(None)
    waiting = asyncio.ensure_future(sender.send("third"))
    await turns()
    assert not waiting.done()
    assert await receiver.receive() == "first"
    await waiting
    assert not sender.closed and not receiver.closed
    with sender:
        pass
    assert sender.closed and receiver.closed
    with pytest.raises(bridge.ChannelClosed, match="the item was not sent"):
        await sender.send("fourth")
    assert [item async for item in receiver] == [None, "third"]
    with pytest.raises(bridge.ChannelClosed, match="has been received"):
        await receiver.receive()


async def leave_in_a_cycle(gate):
    """Leaves a local stream that was asked for an item, for the garbage collector to find."""

    class Garbage:
        def __init__(self):
            self.itself = self
            self.iterator = bridge.at_gate("local", gate)

    async def ask(garbage):
        await garbage.iterator.__anext__()

    task = asyncio.ensure_future(ask(Garbage()))
    await turns()
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def collect_elsewhere():
    """Has another thread find what is garbage, which no other does meanwhile."""

    def collect():
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()

    gc.disable()
    yield collect
    gc.enable()


async def test_a_local_stream_that_is_garbage_elsewhere_is_dropped_on_its_own_thread(collect_elsewhere):
    gate = bridge.Gate()
    await leave_in_a_cycle(gate)
    collect_elsewhere()
    assert (gate.started, gate.dropped) == (1, 0)
    await drops(gate, 1)


def test_a_local_stream_that_is_garbage_elsewhere_is_dropped_when_its_loop_is_closed(new_loop, collect_elsewhere):
    gate = bridge.Gate()
    loop = new_loop()
    loop.run_until_complete(leave_in_a_cycle(gate))
    collect_elsewhere()
    assert (gate.started, gate.dropped) == (1, 0)
    loop.close()
    assert gate.dropped == 1


async def test_an_end_that_is_garbage_closes_the_channel():
    sender, receiver = bridge.channel(1)
    waiting = asyncio.ensure_future(receiver.receive())
    await turns()
    del sender
    with pytest.raises(bridge.ChannelClosed):
        await waiting
    sender, receiver = bridge.channel(1)
    await sender.send(1)
    waiting = asyncio.ensure_future(sender.send(2))
    await turns()
    del receiver
    with pytest.raises(bridge.ChannelClosed):
        await waiting


async def test_receivers_share_a_channel():
    sender, receiver = bridge.channel(3)

    async def receive():
        return [item async for item in receiver]

    tasks = [asyncio.ensure_future(receive()) for _ in range(3)]
    for number in range(100):
        await sender.send(number)
    sender.close()
    assert sorted(sum(await asyncio.gather(*tasks), [])) == list(range(100))


class Counted:
    """An awaitable that counts how often it has suspended its task."""

    def __init__(self, awaitable):
        self.awaitable = awaitable
        self.suspensions = 0

    def __await__(self):
        steps = self.awaitable.__await__()
        with contextlib.suppress(StopIteration):
            while True:
                yielded = steps.send(None)
                self.suspensions += 1
                yield yielded


async def test_an_item_wakes_one_of_those_who_wait():
    count = 50
    sender, receiver = bridge.channel(1)
    waits = [Counted(receiver.receive()) for _ in range(count)]
    tasks = [asyncio.ensure_future(in_task(wait)) for wait in waits]
    for number in range(count):
        await turns()
        await sender.send(number)
    await asyncio.wait(tasks)
    # Who has been woken takes what there is, and passes the word on to one who finds nothing.
    assert sum(wait.suspensions for wait in waits) <= 2 * count


@pytest.mark.parametrize("state", ["waiting", "notified", "woken", "cancelled"])
@pytest.mark.parametrize("method", ["receive", "send"])
def test_who_waits_on_a_closed_loop_keeps_nothing_from_others(new_loop, method, state):
    """What there is was for one who cannot go on any more."""
    sender, receiver = bridge.channel(1)
    closed, other = new_loop(), new_loop()
    if method == "send":
        at_hand(sender.send(0))

    def call():
        return receiver.receive() if method == "receive" else sender.send(0)

    def provide():
        at_hand(sender.send(0) if method == "receive" else receiver.receive())

    async def start(awaitable):
        return awaitable.send(None)

    first, second = call(), other.create_task(call())
    future = closed.run_until_complete(start(first))
    other.run_until_complete(turns())
    if state != "waiting":
        provide()
    if state == "woken":
        closed.run_until_complete(settle(future))
    if state == "cancelled":
        future.cancel()
    closed.close()
    if state == "waiting":
        provide()
    other.run_until_complete(asyncio.wait_for(second, 20))
    assert outcome(first.send, None)[:2] == ("raised", asyncio.CancelledError if state == "cancelled" else RuntimeError)


def test_a_panic_of_a_conversion_to_rust():
    sender, _receiver = bridge.channel_of_bombs(1)
    with pytest.raises(bridge.RustPanic, match="the conversion panicked"):
        sender.send("panic")
    with pytest.raises(TypeError):
        sender.send(0)


def test_a_panic_of_the_drop_of_what_was_not_received(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append((args.exc_type, str(args.exc_value))))
    sender, receiver = bridge.channel_of_bombs(1)
    at_hand(sender.send("bomb"))
    del sender
    with pytest.raises(ZeroDivisionError):
        # The last end dies on the interpreter's stack, by the exception.
        [[receiver, receiver := None][0], 1 / 0]
    ((kind, message),) = unraisable
    assert kind is bridge.RustPanic and message.startswith("the drop panicked")


def test_warns_when_a_send_was_never_awaited():
    sender, _receiver = bridge.channel(1)
    with pytest.warns(RuntimeWarning) as caught:
        sender.send(0)
    assert [str(warning.message) for warning in caught] == ["coroutine 'Sender.send' was never awaited"]
    # It is said of the line that let it go.
    assert caught[0].filename == __file__


def test_the_warning_as_an_error_is_unraisable(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append((args.exc_type, str(args.exc_value))))
    sender, _receiver = bridge.channel(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError):
            # The awaitable dies on the interpreter's stack, by the exception.
            [sender.send(0), 1 / 0]
    assert unraisable == [(RuntimeWarning, "coroutine 'Sender.send' was never awaited")]


async def test_what_does_not_warn():
    """What loses nothing, and what was ended on purpose."""
    sender, receiver = bridge.channel(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        receiver.receive()
        anext(receiver)
        sender.send(0).close()
        # A task that is cancelled before its first step.
        task = asyncio.create_task(sender.send(0))
        task.cancel()
        await asyncio.wait([task])
        del task
        await sender.send(0)
        waiting = asyncio.create_task(sender.send(0))
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        del waiting
    assert caught == []
