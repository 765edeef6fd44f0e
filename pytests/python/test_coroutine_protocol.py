"""What the three ways to a coroutine give is one, in all that Python code can see of it."""

import asyncio
import collections.abc
import contextvars
import copy
import gc
import inspect
import io
import pickle
import sys
import threading
import types
import warnings
import weakref

import bridge
import pytest
from support import drops, outcome, outcome_of, settle, turns

REUSED = "raised", RuntimeError, "cannot reuse already awaited coroutine"


@pytest.fixture(params=["coroutine", "eager", "local"])
def way(request):
    """The ways that give a coroutine."""
    return request.param


def made(way):
    return bridge.value(way, 1, True)


async def native():
    """What the coroutines of Rust are compared with: it suspends, and returns 1."""
    future = asyncio.get_running_loop().create_future()
    future.get_loop().call_soon(future.set_result, 1)
    return await future


def test_is_a_coroutine(way):
    coroutine = made(way)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert asyncio.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    assert not inspect.iscoroutine(coroutine)
    assert not asyncio.isfuture(coroutine)
    coroutine.close()


def test_is_made_without_a_loop(run, way):
    assert run(made(way)) == 1


async def test_starts_at_the_first_await(way):
    gate = bridge.Gate()
    coroutine = gate.wait(way)
    # Whatever was spawned before this one, has been polled when this one has.
    for _ in range(2 * bridge.workers()):
        await bridge.value("coroutine", None, True)
    assert gate.started == 0
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    gate.wait_for_starts(1)
    gate.open(1)
    await task


# The names.


def test_has_the_name_of_the_rust_function(way):
    coroutine = made(way)
    assert coroutine.__name__ == "value"
    assert coroutine.__qualname__ == "bridge::ends::value"
    coroutine.close()


def test_a_method_of_a_trait_gives_a_name(way):
    coroutine = bridge.of_a_trait(way)
    assert coroutine.__name__ == "work"
    assert coroutine.__qualname__.endswith("::work")
    coroutine.close()


@pytest.mark.parametrize("attribute", ["__name__", "__qualname__"])
def test_can_be_renamed(attribute, way):
    coroutine, reference = made(way), native()
    for each in coroutine, reference:
        setattr(each, attribute, "other")
        assert getattr(each, attribute) == "other"
    assert outcome(setattr, coroutine, attribute, 1) == outcome(setattr, reference, attribute, 1)
    assert outcome(delattr, coroutine, attribute)[:2] == outcome(delattr, reference, attribute)[:2]
    for each in coroutine, reference:
        assert getattr(each, attribute) == "other"
        each.close()


def test_the_warning_and_the_repr_use_the_new_name(way):
    coroutine = made(way)
    coroutine.__qualname__ = "other"
    assert "coroutine object other" in repr(coroutine)
    with pytest.warns(RuntimeWarning, match="coroutine 'other' was never awaited"):
        del coroutine


# Its states.

# From Python 3.14 on asyncio's call graphs want a Python frame of whatever shows what it awaits.
SHOWN = sys.version_info < (3, 14) or None


def awaited(coroutine):
    return coroutine.cr_await if SHOWN else getattr(coroutine, "cr_await", None)


async def test_shows_its_state(way):
    coroutine = made(way)
    assert "coroutine object bridge::ends::value created at 0x" in repr(coroutine)
    assert (awaited(coroutine), coroutine.cr_running, coroutine.cr_suspended) == (None, False, False)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    future = coroutine.send(None)
    assert "suspended" in repr(coroutine)
    assert (awaited(coroutine), coroutine.cr_running, coroutine.cr_suspended) == (SHOWN and future, False, True)

    await settle(future)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert "closed" in repr(coroutine)
    assert (awaited(coroutine), coroutine.cr_running, coroutine.cr_suspended) == (None, False, False)


def test_has_no_python_frame(way):
    coroutine = made(way)
    assert (coroutine.cr_frame, coroutine.cr_code, coroutine.cr_origin) == (None, None, None)
    coroutine.close()


async def test_asyncio_can_describe_its_task(way):
    gate = bridge.Gate()
    task = asyncio.create_task(gate.wait(way))
    await asyncio.sleep(0)
    assert "Gate::wait" in repr(task)
    assert task.get_stack() == []
    text = io.StringIO()
    task.print_stack(file=text)
    assert "Gate::wait" in text.getvalue()
    gate.open(1)
    await task


async def test_is_awaited_by_one(way):
    """Who comes second fails, and the first does not notice."""

    async def wait(coroutine):
        return await coroutine

    gate = bridge.Gate()
    opened = asyncio.Event()
    for coroutine, go_on in (gate.wait(way, True), lambda: gate.open(1)), (opened.wait(), opened.set):
        first, second = asyncio.create_task(wait(coroutine)), asyncio.create_task(wait(coroutine))
        await turns()
        second.cancel()
        assert await outcome_of(second) == ("raised", RuntimeError, "coroutine is being awaited already")
        go_on()
        assert await first is True


async def test_a_python_coroutine_shows_that_it_awaits_it(way):
    async def outer(coroutine):
        await coroutine

    inner = made(way)
    coroutine = outer(inner)
    future = coroutine.send(None)
    assert coroutine.cr_await is inner
    await settle(future)
    with pytest.raises(StopIteration):
        coroutine.send(None)


# Driving it by hand.


async def test_yields_a_future_of_the_running_loop(way):
    coroutine = made(way)
    future = coroutine.send(None)
    assert asyncio.isfuture(future)
    assert future._asyncio_future_blocking is True
    assert future.get_loop() is asyncio.get_running_loop()
    coroutine.close()


@pytest.mark.parametrize("value", [None, 1, (), (1, 2), StopIteration(3), ValueError("a value")], ids=repr)
async def test_returns_by_stop_iteration(value, way):
    coroutine = bridge.value(way, value, True)
    await settle(coroutine.send(None))
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value is value


@pytest.mark.parametrize("value", [None, 1, (), (1, 2), StopIteration(3), ValueError("a value")], ids=repr)
@pytest.mark.parametrize("way", ["eager", "local"])
async def test_one_that_is_polled_in_place_and_ready_returns_at_once(value, way):
    coroutine = bridge.value(way, value, False)
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value is value
    assert outcome(coroutine.send, None) == REUSED


@pytest.mark.parametrize("way", ["eager", "local"])
async def test_one_that_is_polled_in_place_is_polled_by_the_first_send(way):
    gate = bridge.Gate()
    coroutine = gate.wait(way, "the value")
    assert gate.started == 0
    future = coroutine.send(None)
    assert gate.started == 1
    gate.open(1)
    await settle(future)
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == "the value"


async def test_its_iterator_is_driven_like_itself(way):
    coroutine = made(way)
    iterator = coroutine.__await__()
    assert iter(iterator) is iterator
    await settle(next(iterator))
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    assert caught.value.value == 1


def step(method, *arguments):
    return lambda coroutine: getattr(coroutine, method)(*arguments)


START, CLOSE, THROW = step("send", None), step("close"), step("throw", ValueError("thrown"))
SCRIPTS = {
    "a value before the start": [step("send", 1), START, CLOSE],
    "thrown into before the start": [THROW, START, THROW, CLOSE],
    "a class thrown in before the start": [step("throw", KeyError), START],
    "closed before the start": [CLOSE, CLOSE, START, THROW],
    "thrown into": [START, THROW, START, THROW, CLOSE],
    "a class thrown in": [START, step("throw", KeyError), START],
    "the end of an iteration thrown in": [START, step("throw", GeneratorExit)],
    "cancelled": [START, step("throw", asyncio.CancelledError("why")), START],
    "nothing thrown": [START, step("throw"), CLOSE],
    "closed": [START, CLOSE, START, THROW, CLOSE],
    "sent to too early": [START, START, START],
    "wrong arguments": [step("send"), step("send", 1, 2), step("close", 1), START, CLOSE],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_steps_as_a_python_coroutine_does(script, way):
    def outcomes(coroutine):
        for each in script:
            kind, what, *message = outcome(each, coroutine)
            if asyncio.isfuture(what):
                what = "a future"
            # What is wrong with the arguments is said in other words in each version.
            yield (kind, what) if what is TypeError else (kind, what, *message)

    assert list(outcomes(made(way))) == list(outcomes(native()))


def test_a_return_cannot_be_thrown_in(way):
    """Python's own coroutines differ in this from version to version, if they have not been started."""
    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$") as raised:
        made(way).throw(StopIteration(5))
    assert raised.value.__cause__.value == 5


async def test_takes_none_first(way):
    coroutine, reference = made(way), native()
    assert outcome(coroutine.send, 1) == outcome(reference.send, 1)
    assert await coroutine == await reference


async def test_raises_what_is_thrown_with_its_traceback(way):
    def traceback():
        try:
            raise KeyError("elsewhere")
        except KeyError as error:
            return error.__traceback__

    error = ValueError("thrown")
    for arguments in [(error,), (ValueError, error), (ValueError, error, None)]:
        coroutine = made(way)
        coroutine.send(None)
        with pytest.raises(ValueError) as caught:
            coroutine.throw(*arguments)
        assert caught.value is error

    coroutine = made(way)
    coroutine.send(None)
    with pytest.raises(ValueError, match="made here") as caught:
        coroutine.throw(ValueError, "made here", traceback())
    assert [frame.name for frame in caught.traceback][-1] == "traceback"


@pytest.mark.parametrize(
    "arguments", [(None,), (ValueError("a value"), "and another"), (ValueError, "message", "no traceback"), (int,)]
)
async def test_refuses_to_throw(arguments, way):
    coroutine = made(way)
    with pytest.raises(TypeError):
        coroutine.throw(*arguments)
    coroutine.close()


async def test_a_refused_throw_leaves_it_as_it_was(way):
    coroutine = made(way)
    assert outcome(coroutine.throw, 1)[1] is TypeError
    assert await coroutine == 1


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("end", [step("close"), step("throw", ValueError)])
async def test_ending_it_drops_the_rust_future(started, end, way):
    gate = bridge.Gate()
    coroutine = gate.wait(way)
    if started:
        coroutine.send(None)
        gate.wait_for_starts(1)
    outcome(end, coroutine)
    await drops(gate, 1)
    assert gate.started == int(started)


# Awaited where or when it cannot be.


def test_cannot_be_started_without_a_loop(way):
    gate = bridge.Gate()
    coroutine = gate.wait(way)
    message = r"no running event loop: .*'wait' must be awaited inside one of asyncio's, for instance by asyncio.run\(...\)"
    with pytest.raises(RuntimeError, match=message):
        coroutine.send(None)
    # An eager one looks for a loop when it has to wait.
    assert (gate.started, gate.dropped) == (1 if way == "eager" else 0, 1)


async def test_cannot_be_awaited_twice(way):
    coroutine = made(way)
    assert await coroutine == 1
    for _ in range(2):
        assert await outcome_of(coroutine) == REUSED
    assert outcome(coroutine.throw, ValueError) == REUSED
    assert coroutine.close() is None


async def test_cannot_be_awaited_after_an_error(way):
    coroutine = bridge.fail(way, ValueError("once"), True)
    assert await outcome_of(coroutine) == ("raised", ValueError, "once")
    assert await outcome_of(coroutine) == REUSED


async def test_is_awaited_by_two_tasks_at_once(way):
    gate = bridge.Gate()
    coroutine = gate.wait(way, "the value")
    tasks = [asyncio.create_task(outcome_of(coroutine)) for _ in range(2)]
    await asyncio.sleep(0)
    gate.open(1)
    outcomes = await asyncio.gather(*tasks)
    assert ("returned", "the value") in outcomes
    outcomes.remove(("returned", "the value"))
    assert outcomes[0][:2] == ("raised", RuntimeError)


def test_cannot_be_stepped_while_it_is_being_stepped(loop_class, new_loop, run, way):
    coroutine = made(way)
    seen = []

    class Reentrant(loop_class):
        def add_reader(self, *arguments):
            # This is called by the first step of the first coroutine on the loop.
            seen.clear()
            seen.append(repr(coroutine))
            seen.append((coroutine.cr_running, coroutine.cr_suspended, awaited(coroutine)))
            for method, *values in ("send", None), ("throw", ValueError), ("close",):
                seen.append(outcome(getattr(coroutine, method), *values))
            super().add_reader(*arguments)

    assert run(coroutine, new_loop(Reentrant)) == 1
    description, state, *outcomes = seen
    assert "running" in description
    assert state == (True, False, None)
    assert outcomes == 3 * [("raised", ValueError, "coroutine already executing")]


def test_cannot_be_stepped_by_two_threads_at_once(loop_class, new_loop, run, way):
    coroutine = made(way)
    seen = []

    class Shared(loop_class):
        def add_reader(self, *arguments):
            thread = threading.Thread(target=lambda: seen.append(outcome(coroutine.close)))
            thread.start()
            thread.join()
            super().add_reader(*arguments)

    assert run(coroutine, new_loop(Shared)) == 1
    assert set(seen) == {("raised", ValueError, "coroutine already executing")}


@pytest.mark.parametrize("later", [False, True])
async def test_an_output_is_converted_in_the_context_of_the_awaiter(way, later):
    variable = contextvars.ContextVar("variable")
    variable.set("the awaiter's")
    assert await bridge.converted(way, variable.get, later) == "the awaiter's"


# Never awaited.


def test_warns_when_it_was_never_awaited(way):
    gate = bridge.Gate()
    with pytest.warns(RuntimeWarning) as caught:
        gate.wait(way)
    assert [str(warning.message) for warning in caught] == ["coroutine 'bridge::gate::Gate::wait' was never awaited"]
    # It is said of the line that let the coroutine go.
    assert caught[0].filename == __file__
    assert gate.dropped == 1


def test_the_warning_as_an_error_is_unraisable(monkeypatch, way):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append((args.exc_type, str(args.exc_value))))
    gate = bridge.Gate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gate.wait(way)
    assert unraisable == [(RuntimeWarning, "coroutine 'bridge::gate::Gate::wait' was never awaited")]
    assert gate.dropped == 1


@pytest.mark.parametrize("action", ["always", "ignore", "error"])
def test_the_warning_keeps_the_exception_that_is_on_its_way(monkeypatch, action, way):
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter(action)
        with pytest.raises(ZeroDivisionError):
            # The coroutine dies on the interpreter's stack, by the exception.
            [made(way), 1 / 0]


def test_does_not_come_back_to_life_through_the_warning(monkeypatch, way):
    kept = []
    monkeypatch.setattr(warnings, "showwarning", lambda *arguments, **keywords: kept.append((arguments, keywords)))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        coroutine = made(way)
        dead = weakref.ref(coroutine)
        del coroutine
    assert len(kept) == 1
    assert dead() is None


@pytest.mark.parametrize("end", [step("close"), step("throw", ValueError), step("send", None)])
def test_does_not_warn_when_it_was_ended(end, way):
    coroutine = made(way)
    outcome(end, coroutine)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del coroutine
    assert caught == []


# Its memory.


def test_can_be_referred_to_weakly(way):
    called = []
    coroutine = made(way)
    coroutine.close()
    reference = weakref.ref(coroutine, called.append)
    assert reference() is coroutine
    del coroutine
    assert reference() is None
    assert called == [reference]


async def test_drops_the_rust_future_when_it_is_dropped(way):
    gate = bridge.Gate()
    coroutine = gate.wait(way)
    coroutine.send(None)
    gate.wait_for_starts(1)
    del coroutine
    await drops(gate, 1)


def test_the_garbage_collector_finds_what_it_refers_to(run, way):
    async def main():
        coroutine = made(way)
        assert gc.is_tracked(coroutine)
        future = coroutine.send(None)
        assert future in gc.get_referents(coroutine)
        assert asyncio.get_running_loop() in gc.get_referents(future)
        coroutine.close()

    run(main())


def test_a_cycle_with_a_closed_loop_is_collected(new_loop, way):
    class Witness:
        pass

    gate = bridge.Gate()
    loop = new_loop()
    coroutine, witness = gate.wait(way), Witness()

    async def main():
        future = coroutine.send(None)
        # The future refers to what refers to the coroutine, which refers to the future.
        witness.coroutine = coroutine
        future.add_done_callback(lambda _, witness=witness: None)

    loop.run_until_complete(main())
    loop.close()
    dead = weakref.ref(witness)
    del coroutine, witness
    gc.collect()
    assert dead() is None
    gate.wait_for_drops(1)


async def test_the_garbage_collector_may_come_at_any_time(way):
    stop = threading.Event()

    def collect():
        while not stop.is_set():
            gc.collect(0)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for _ in range(20):
            await asyncio.gather(*(bridge.value(way, None, True) for _ in range(50)))
    finally:
        stop.set()
        thread.join()


# Its type.


def test_cannot_be_made_inherited_from_or_changed(way):
    coroutine = made(way)
    kind = type(coroutine)
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        types.new_class("Derived", (kind,))
    with pytest.raises(TypeError):
        kind.send = None
    for duplicate in copy.copy, pickle.dumps:
        with pytest.raises(TypeError):
            duplicate(coroutine)
    coroutine.close()
