"""What `into_asyncio_future` gives is a future to asyncio: it is compared with a task, method by method."""

import asyncio
import collections.abc
import contextvars
import functools
import gc
import inspect
import sys
import types
import weakref

import bridge
import pytest
from support import outcome, outcome_of, turns

tasks_keep_messages = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="tasks keep the message of a cancellation since Python 3.11"
)

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Pair:
    """A future of Rust and a task of Python, that are to behave alike."""

    def __init__(self):
        self.gate = bridge.Gate()
        self.opened = asyncio.Event()

    def start(self, result="the value"):
        fails = isinstance(result, BaseException)
        self.future = (self.gate.fail if fails else self.gate.wait)("future", result)
        self.task = asyncio.ensure_future(wait(self.opened, result))
        self.both = self.future, self.task
        return self

    async def end(self):
        self.gate.open(1)
        self.opened.set()
        await asyncio.wait(self.both)


async def wait(opened, result):
    await opened.wait()
    if isinstance(result, BaseException):
        raise result
    return result


async def pending():
    pair = Pair().start()
    await asyncio.sleep(0)
    return pair


async def returned():
    pair = await pending()
    await pair.end()
    return pair


async def failed():
    pair = Pair().start(ValueError("raised"))
    await asyncio.sleep(0)
    await pair.end()
    return pair


async def cancelled(*arguments, **keywords):
    pair = await pending()
    for future in pair.both:
        future.cancel(*arguments, **keywords)
    await asyncio.wait(pair.both)
    return pair


async def cancelled_with_a_message():
    return await cancelled("why")


async def cancelled_with_a_named_message():
    return await cancelled(msg="why")


STATES = [
    pending,
    returned,
    failed,
    cancelled,
    pytest.param(cancelled_with_a_message, marks=tasks_keep_messages),
    pytest.param(cancelled_with_a_named_message, marks=tasks_keep_messages),
]


@pytest.fixture(params=STATES, ids=lambda state: state.__name__)
def state(request):
    return request.param


async def clean_up(pair):
    for future in pair.both:
        future.cancel()
    await asyncio.gather(*pair.both, return_exceptions=True)


QUESTIONS = {
    "done": lambda future: future.done(),
    "cancelled": lambda future: future.cancelled(),
    "result": lambda future: future.result(),
    "exception": lambda future: repr(future.exception()),
    "_state": lambda future: future._state,
    "_log_traceback": lambda future: future._log_traceback,
    "_callbacks": lambda future: future._callbacks,
    "_make_cancelled_error": lambda future: repr(future._make_cancelled_error()),
    "get_loop": lambda future: future.get_loop() is future._loop is asyncio.get_running_loop(),
    "_asyncio_future_blocking": lambda future: future._asyncio_future_blocking,
    "add_done_callback": lambda future: future.add_done_callback(id),
    "remove_done_callback": lambda future: future.remove_done_callback(id),
    "cancel": lambda future: future.cancel(),
    "cancel twice": lambda future: (future.cancel(), future.cancel("why")),
    "cancel with two messages": lambda future: future.cancel("one", "two"),
    "cancel with another keyword": lambda future: future.cancel(message="why"),
    "add nothing": lambda future: future.add_done_callback(),
    "add with two arguments": lambda future: future.add_done_callback(id, None),
    "remove nothing": lambda future: future.remove_done_callback(),
    "ask too much": lambda future: future.done(1),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
async def test_answers_as_a_task(state, question):
    pair = await state()
    answers = [outcome(question, future) for future in pair.both]
    if answers[0][1] is TypeError:
        # What is wrong with the arguments is said in other words.
        answers = [answer[:2] for answer in answers]
    assert answers[0] == answers[1]
    await clean_up(pair)


@pytest.mark.parametrize("message", [None, "why"])
async def test_keeps_its_cancel_message(message):
    """As a future of asyncio does, if not a task."""
    future = (await cancelled(message)).future
    reference = asyncio.get_running_loop().create_future()
    reference.cancel(message)
    assert future._cancel_message == reference._cancel_message == message
    for ask in "result", "exception", "_make_cancelled_error":
        assert repr(outcome(getattr(future, ask))) == repr(outcome(getattr(reference, ask)))
    assert await outcome_of(future) == await outcome_of(reference)


async def test_is_awaited_as_a_task(state):
    pair = await state()
    waiting = [asyncio.ensure_future(outcome_of(future)) for future in pair.both]
    await asyncio.sleep(0)
    if state is pending:
        await pair.end()
    first, second = await asyncio.gather(*waiting)
    assert first == second
    await clean_up(pair)


async def test_is_a_future():
    future = bridge.value("future", 1, True)
    assert asyncio.isfuture(future)
    assert not asyncio.iscoroutine(future)
    assert not isinstance(future, collections.abc.Coroutine)
    assert isinstance(future, collections.abc.Awaitable)
    assert inspect.isawaitable(future)
    assert await future == 1


async def test_passes_for_one_of_asyncios():
    """tornado asks so what it is given, and anyio whether what a task waits for is done."""
    future = bridge.value("future", 1, True)
    assert isinstance(future, asyncio.Future) and not isinstance(future, asyncio.Task)
    assert not issubclass(type(future), asyncio.Future)
    with pytest.raises(AttributeError):
        future.__class__ = asyncio.Task
    # Whoever calls asyncio's own methods with it, past its type, is refused.
    with pytest.raises(TypeError):
        asyncio.Future.result(future)
    assert await future == 1


async def test_has_all_that_a_future_has():
    future = bridge.value("future", 1, True)
    public = {name for name in dir(asyncio.Future) if not name.startswith("_")}
    assert {name for name in public if not hasattr(future, name)} == set()
    await future


async def test_says_what_it_is():
    gate = bridge.Gate()
    future = gate.wait("future")
    assert "Gate::wait" in repr(future) and "pending" in repr(future)
    gate.open(1)
    await future
    assert "finished" in repr(future)


def test_needs_a_running_loop():
    gate = bridge.Gate()
    message = "no running event loop: into_asyncio_future starts the Rust future 'wait' where it is called"
    with pytest.raises(RuntimeError, match=message):
        gate.wait("future")
    assert (gate.started, gate.dropped) == (0, 1)


async def test_starts_at_once():
    gate = bridge.Gate()
    future = gate.wait("future")
    gate.wait_for_starts(1)
    gate.open(1)
    await future


async def test_runs_on_when_nobody_refers_to_it():
    gate = bridge.Gate()
    gate.wait("future")
    gc.collect()
    gate.wait_for_starts(1)
    assert gate.dropped == 0
    gate.open(1)
    gate.wait_for_drops(1)
    await turns()


@pytest.mark.parametrize("arguments", [("set_result", 1), ("set_exception", ValueError())])
async def test_refuses_to_be_set(arguments):
    method, value = arguments
    pair = await pending()
    for future in pair.both:
        with pytest.raises(RuntimeError, match=f"does not support {method} operation"):
            getattr(future, method)(value)
        assert not future.done()
    await clean_up(pair)


# The protocol of `await`.


async def test_is_iterable():
    @types.coroutine
    def old_style(future):
        return (yield from future)

    assert await old_style(bridge.value("future", 1, True)) == 1


@pytest.mark.parametrize("step", [next, lambda iterator: iterator.send(None)], ids=["next", "send"])
async def test_yields_itself_once(step):
    gate = bridge.Gate()
    future = gate.wait("future", "the value")
    iterator = future.__await__()
    assert step(iterator) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        step(iterator)
    future._asyncio_future_blocking = False
    assert future._asyncio_future_blocking is False
    gate.open(1)
    await asyncio.wait([future])
    with pytest.raises(StopIteration) as caught:
        step(future.__await__())
    assert caught.value.value == "the value"


async def test_raises_what_is_thrown_into_its_iterator():
    gate = bridge.Gate()
    future = gate.wait("future", "the value")
    iterator = future.__await__()
    next(iterator)
    error = KeyError("thrown")
    with pytest.raises(KeyError) as raised:
        iterator.throw(error)
    assert raised.value is error
    # Nor is it taken for a coroutine, which has these methods too.
    assert not asyncio.iscoroutine(future)
    future._asyncio_future_blocking = False
    gate.open(1)
    assert await future == "the value"


@pytest.mark.parametrize("error", [None, ValueError("raised")])
async def test_is_awaited_by_many(error):
    gate = bridge.Gate()
    future = gate.fail("future", error) if error else gate.wait("future", "the value")
    tasks = [asyncio.create_task(outcome_of(future)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.open(1)
    expected = ("raised", ValueError, "raised") if error else ("returned", "the value")
    assert await asyncio.gather(*tasks) == 10 * [expected]
    assert await outcome_of(future) == expected


async def test_one_that_is_done_does_not_suspend():
    future = bridge.value("future", 1, True)
    await future
    turned = []
    asyncio.get_running_loop().call_soon(turned.append, None)
    assert await future == 1
    assert turned == []


# Its callbacks.


async def test_calls_back_soon_in_order_with_itself():
    pair = await pending()
    calls = []
    for future in pair.both:
        for number in range(3):
            future.add_done_callback(lambda done, number=number: calls.append((done, number)))
    await pair.end()
    assert [number for done, number in calls if done is pair.future] == [0, 1, 2]
    assert [number for done, number in calls if done is pair.task] == [0, 1, 2]

    # One that is done calls back soon, and not at once.
    for future in pair.both:
        calls.clear()
        future.add_done_callback(calls.append)
        assert calls == []
        await asyncio.sleep(0)
        assert calls == [future]


@pytest.mark.parametrize("before", [True, False])
async def test_calls_back_and_resumes_tasks_in_the_order_in_which_they_came(before):
    pair = await pending()
    orders = []
    tasks = []

    async def waiting(future, order):
        await future
        order.append("the task")

    for future in pair.both:
        order = []
        orders.append(order)
        if before:
            future.add_done_callback(lambda _, order=order: order.append("the callback"))
        tasks.append(asyncio.create_task(waiting(future, order)))
        await asyncio.sleep(0)
        if not before:
            future.add_done_callback(lambda _, order=order: order.append("the callback"))
    await pair.end()
    await asyncio.gather(*tasks)
    await turns()
    expected = ["the callback", "the task"] if before else ["the task", "the callback"]
    assert orders == [expected, expected]


async def test_calls_back_before_what_is_scheduled_later():
    pair = await pending()
    for future in pair.both:
        order = []
        future.add_done_callback(lambda _, order=order: order.append("callback"))
        future.add_done_callback(lambda done, order=order: done.get_loop().call_soon(order.append, "from a callback"))
        future.add_done_callback(lambda _, order=order: order.append("another"))
        pair.gate.open(1)
        pair.opened.set()
        await asyncio.wait([future])
        await turns()
        assert order == ["callback", "another", "from a callback"]


async def test_gather_and_shield_are_told_in_the_moment_in_which_it_is_done():
    pair = await pending()
    told = [asyncio.gather(pair.future), asyncio.shield(pair.future)]
    pair.gate.open(1)
    while not pair.future.done():
        await asyncio.sleep(0)
    assert [future.done() for future in told] == [True, True]
    assert await asyncio.gather(*told) == [["the value"], "the value"]


async def test_gather_is_told_in_the_order_in_which_the_callbacks_came():
    pair = await pending()
    gathered, told = [], ([], [])
    for number, future in enumerate(pair.both):

        def ask(_, number=number):
            told[number].append(gathered[number].done())

        future.add_done_callback(ask)
        gathered.append(asyncio.gather(future))
        future.add_done_callback(ask)
    await pair.end()
    await asyncio.gather(*gathered)
    await turns()
    assert told == ([False, True], [False, True])


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
@pytest.mark.parametrize(
    "steps",
    ["", "+a", "+a +b +c", "+a cancel +b", "cancel +a +b", "+a -a +b", "+a +b -a +c", "+a +b -a -b", "+a +b cancel -a +a +c"],
)
async def test_callbacks_are_called_in_the_order_in_which_they_came(steps, fails):
    gate, error = bridge.Gate(), ValueError("raised")
    future = gate.fail("future", error) if fails else gate.wait("future", 1)
    reference = asyncio.get_running_loop().create_future()
    told = {future: "", reference: ""}

    def tell(name, done):
        told[done] += name

    callbacks = {name: functools.partial(tell, name) for name in "abc"}
    for step in steps.split():
        if step == "cancel":
            # asyncio's own would be done at once.
            assert future.cancel("why") and future._cancel_message == "why"
            continue
        change, name = step
        for one in told:
            if change == "+":
                one.add_done_callback(callbacks[name])
            else:
                assert one.remove_done_callback(callbacks[name]) == 1
        assert (future._callbacks or []) == (reference._callbacks or [])
    if "cancel" in steps:
        reference.cancel("why")
    elif fails:
        gate.open(1)
        reference.set_exception(error)
    else:
        gate.open(1)
        reference.set_result(1)
    await asyncio.wait([future, reference])
    await turns()
    assert told[future] == told[reference]
    assert outcome(future.result) == outcome(reference.result)
    # What was called is forgotten.
    assert future._callbacks is None


async def test_callbacks_of_two_futures_are_called_in_the_order_of_their_ends():
    # Its one thread has sent the end of one when it comes to the next, and the last says that the others were sent.
    runtime = bridge.Runtime()
    gates = [bridge.Gate() for _ in range(3)]
    first, second, last = [runtime.wait("future", gate) for gate in gates]
    told = []

    async def wait_for(future):
        await future
        told.append("task of the second")

    first.add_done_callback(lambda _: told.append("callback of the first"))
    task = asyncio.ensure_future(wait_for(second))
    await turns()
    # The loop does not run between the two.
    for gate in gates:
        gate.open_while_attached(1)
    await asyncio.wait([first, task, last])
    assert told == ["callback of the first", "task of the second"]
    runtime.shut_down()


async def test_who_cancels_what_has_failed_has_seen_its_exception():
    pair = await failed()
    for future in pair.both:
        assert future._log_traceback and not future.cancel()
        assert not future._log_traceback
    for future in (await pending()).both:
        assert future.cancel()
        assert not future._log_traceback


async def test_calls_back_in_the_context_of_each_callback():
    pair = await pending()
    seen = []
    for future in pair.both:
        VARIABLE.set("when it was added")
        future.add_done_callback(lambda _: seen.append(VARIABLE.get()))
        given = contextvars.copy_context()
        given.run(VARIABLE.set, "in the given context")
        future.add_done_callback(lambda _: seen.append(VARIABLE.get()), context=given)
        VARIABLE.set("afterwards")
    await pair.end()
    await turns()
    assert sorted(seen) == 2 * ["in the given context"] + 2 * ["when it was added"]

    # The same holds when it is done.
    for future in pair.both:
        seen.clear()
        future.add_done_callback(lambda _: seen.append(VARIABLE.get()))
        future.add_done_callback(lambda _: seen.append(VARIABLE.get()), context=given)
        VARIABLE.set("later still")
        await turns()
        assert seen == ["afterwards", "in the given context"]
        VARIABLE.set("afterwards")


async def test_removes_what_is_equal_and_counts():
    class Receiver:
        def receive(self, future):
            called.append(future)

    called = []
    receiver, other = Receiver(), Receiver()
    pair = await pending()
    for future in pair.both:
        for callback in [receiver.receive, called.append, receiver.receive, other.receive, receiver.receive]:
            future.add_done_callback(callback)
        assert future.remove_done_callback(receiver.receive) == 3
        assert future.remove_done_callback(receiver.receive) == 0
        assert future.remove_done_callback(print) == 0
        assert [callback for callback, _ in future._callbacks] == [called.append, other.receive]
    await pair.end()
    assert sorted(called, key=id) == sorted(2 * pair.both, key=id)
    for future in pair.both:
        assert future.remove_done_callback(called.append) == 0


async def test_a_callback_that_raises_is_reported(reports):
    error = ValueError("raised by a callback")

    def callback(_):
        raise error

    called = []
    pair = await pending()
    for future in pair.both:
        future.add_done_callback(callback)
        future.add_done_callback(called.append)
    await pair.end()
    assert set(called) == set(pair.both)
    for report in reports.take():
        assert report["exception"] is error
        # It is the loop that has called it.
        assert report["message"].startswith("Exception in callback")
        assert "handle" in report


async def test_comparing_callbacks_may_use_the_future():
    class Meddler:
        def __call__(self, _):
            pass

        def __eq__(self, other):
            future.add_done_callback(called.append)
            return isinstance(other, Meddler)

    called = []
    gate = bridge.Gate()
    future = gate.wait("future")
    future.add_done_callback(Meddler())
    assert future.remove_done_callback(Meddler()) == 1
    assert len(future._callbacks) > 0
    gate.open(1)
    await asyncio.wait([future])
    assert set(called) == {future}


async def test_a_comparison_that_raises_removes_nothing():
    class Unequal:
        def __call__(self, _):
            pass

        def __eq__(self, other):
            raise ValueError("incomparable")

    pair = await pending()
    for future in pair.both:
        callback = Unequal()
        future.add_done_callback(callback)
        assert outcome(future.remove_done_callback, Unequal()) == ("raised", ValueError, "incomparable")
        assert [function for function, _ in future._callbacks] == [callback]
        # What is the same is not compared.
        assert future.remove_done_callback(callback) == 1
    await pair.end()


# Exceptions that nobody has retrieved.


async def fail():
    return (await failed()).both


def test_an_exception_while_one_callback_is_scheduled_leaves_the_others(loop_class, new_loop, run, reports):
    class Loop(loop_class):
        raises = False

        def call_soon(self, callback, *args, context=None):
            if self.raises and callback is first:
                raise KeyError("once")
            return super().call_soon(callback, *args, context=context)

    def first(_):
        raise AssertionError("it was not scheduled")

    async def main():
        future = bridge.value("future", 1, True)
        second = asyncio.get_running_loop().create_future()
        future.add_done_callback(first)
        future.add_done_callback(lambda _: second.set_result("called"))
        loop.raises = True
        assert await asyncio.wait_for(second, 10) == "called"

    loop = new_loop(Loop)
    run(main(), loop)
    (report,) = reports.take()
    assert report["exception"].args == ("once",)


async def test_an_exception_that_nobody_retrieved_is_reported_once(reports):
    futures = await fail()
    assert [future._log_traceback for future in futures] == [True, True]
    assert reports.take() == []
    del futures
    first, second = reports.take()
    for report in first, second:
        assert str(report["exception"]) == "raised"
        assert "exception" in report["message"] and report["message"].endswith("was never retrieved")
    assert reports.take() == []


async def test_the_report_names_the_rust_function(reports):
    bridge.fail("future", ValueError("unretrieved"), True)
    await wait_for_report(reports)
    assert [report["message"] for report in reports.take()] == [
        "exception of the Rust future 'bridge::ends::fail' was never retrieved"
    ]


async def wait_for_report(reports):
    while not reports:
        await asyncio.sleep(0)


async def test_garbage_is_reported_too(reports):
    gate = bridge.Gate()
    error = ValueError("in a cycle")
    # As a traceback does.
    error.future = gate.fail("future", error)
    gate.open(1)
    await asyncio.wait([error.future])
    await turns()
    del error
    (report,) = reports.take()
    assert str(report["exception"]) == "in a cycle"


async def swallow(future):
    try:
        await future
    except ValueError:
        pass


RETRIEVALS = {
    "await": swallow,
    "result": lambda future: outcome(future.result),
    "exception": lambda future: future.exception(),
    "gather": lambda future: asyncio.gather(future, return_exceptions=True),
    "wait_for": lambda future: swallow(asyncio.wait_for(future, 20)),
    "not to be logged": lambda future: setattr(future, "_log_traceback", False),
}


@pytest.mark.parametrize("retrieve", RETRIEVALS.values(), ids=RETRIEVALS)
async def test_an_exception_that_was_retrieved_is_not_reported(reports, retrieve):
    futures = await fail()
    for future in futures:
        retrieving = retrieve(future)
        if inspect.isawaitable(retrieving):
            await retrieving
        assert future._log_traceback is False
    del futures, future, retrieving
    assert reports.take() == []


async def test_asking_whether_it_is_done_does_not_retrieve(reports):
    futures = await fail()
    for future in futures:
        assert future.done() and not future.cancelled()
        assert future._log_traceback is True
    del futures, future
    assert len(reports.take()) == 2


async def test_logging_can_only_be_turned_off():
    for future in await fail():
        assert outcome(setattr, future, "_log_traceback", True) == (
            "raised",
            ValueError,
            "_log_traceback can only be set to False",
        )
        future.exception()


async def test_a_cancelled_one_is_not_reported(reports):
    pair = await cancelled()
    assert pair.future._log_traceback is False
    del pair
    assert reports.take() == []


# Its memory.


async def test_can_be_referred_to_weakly():
    future = bridge.value("future", 1, True)
    reference = weakref.ref(future)
    assert reference() is future
    await future
    # What resumes a task holds what it awaited until it suspends.
    await turns()
    del future
    assert reference() is None


async def test_is_let_go_when_it_has_ended():
    class Value:
        pass

    value = Value()
    reference = weakref.ref(value)
    future = bridge.value("future", value, True)
    del value
    await future
    await turns()
    assert reference() is not None
    del future
    assert reference() is None


async def test_a_cycle_through_its_result_is_collected():
    class Value:
        pass

    value = Value()
    value.future = bridge.value("future", value, True)
    await value.future
    await turns()
    reference = weakref.ref(value)
    del value
    gc.collect()
    assert reference() is None


async def test_can_be_a_key():
    futures = [bridge.value("future", number, True) for number in range(2)]
    assert {futures[0]: 0, futures[1]: 1}[futures[1]] == 1
    assert futures[0] == futures[0] != futures[1]
    await asyncio.gather(*futures)
