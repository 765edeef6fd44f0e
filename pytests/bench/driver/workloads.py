"""The workloads that are timed, and the contenders that can run them.

Each workload gives, for each contender, a function of a number of operations: a coroutine that runs them, and that
raises if what came of them is wrong.
"""

import asyncio
import functools
import json
from types import SimpleNamespace

import child
import contenders
from timing import Candidate, interleaved, progress

RUNTIMES = ["tokio", "async_std", "smol"]

# How many at the same time.
TASKS = 100
FAN_OUT = 10_000


def start(workers, keep_states, abi3):
    """Starts the runtime; the contenders by name."""
    if contenders.ABI3 != abi3:
        raise RuntimeError(f"not the build that was asked for: {contenders.__file__}")
    contenders.start_tokio(workers, keep_states)
    names = [f"{runtime}_{way}" for runtime in RUNTIMES for way in ["coroutine", "eager", "local", "future"]]
    names += [f"{runtime}_{way}" for runtime in RUNTIMES for way in ["stream", "local_stream"]]
    found = {name: getattr(contenders, name) for name in [*names, "peer", "native", "floor"]}
    return {**found, "python": SimpleNamespace(pending=lambda: asyncio.get_running_loop().create_future())}


def expect(value, expected=1):
    if value != expected:
        raise AssertionError(f"{value!r} instead of {expected!r}")


async def noop():
    return 1


async def sequential(function, count):
    value = 1
    for _ in range(count):
        value = await function()
    expect(value)


async def concurrent(function, count):
    await asyncio.gather(*(sequential(function, count // TASKS) for _ in range(TASKS)))


async def fan_out(function, count, width=FAN_OUT):
    for _ in range(count // width):
        values = await asyncio.gather(*[function() for _ in range(width)])
        expect(sum(values), width)


def counted():
    """A coroutine function, and a function that tells how often its coroutines have run: nobody passes by not calling.

    It costs each contender the same, and the reference too.
    """
    runs = 0

    async def once():
        nonlocal runs
        runs += 1
        return 1

    return once, lambda: runs


async def calls(function, count):
    once, runs = counted()
    expect(await function(once, count), count)
    expect(runs(), count)


async def calls_at_once(function, count):
    once, runs = counted()
    for _ in range(count // FAN_OUT):
        expect(await function(once, FAN_OUT), FAN_OUT)
    expect(runs(), count)


def completed_soon():
    """What a callback-driven library in pure Python does: a future, and `call_soon` to complete it."""
    event_loop = asyncio.get_running_loop()
    future = event_loop.create_future()
    event_loop.call_soon(future.set_result, 1)
    return future


def in_executor():
    return asyncio.get_running_loop().run_in_executor(None, int, 1)


def yields():
    return asyncio.sleep(0, 1)


async def python_calls(_, count):
    """`create_task` and an await, in a row."""
    once, runs = counted()
    await sequential(lambda: asyncio.get_running_loop().create_task(once()), count)
    expect(runs(), count)


async def python_calls_at_once(_, count):
    once, runs = counted()
    await fan_out(once, count)
    expect(runs(), count)


async def floor(function, count):
    expect(function(count), count)


async def generate(count):
    for number in range(count):
        yield number


async def iterate(function, count):
    """`async for` over what a function of the count gives."""
    total = 0
    async for number in function(count):
        total += number
    expect(total, count * (count - 1) // 2)


async def consume(function, count):
    """A function that sums what an asynchronous generator yields."""
    expect(await function(generate(count)), count * (count - 1) // 2)


async def python_consume(_, count):
    await iterate(generate, count)


class Workload:
    """One row of the table.

    `ours` are the ways of this library that the workload is for, `peers` the contenders that it is compared with.
    `python` is the reference: a function that gives an awaitable, and what drives it, if not the same as for the rest.
    What is to run on threads that keep their Python thread state (`keep_states`) needs tokio, and a process of its own.
    """

    def __init__(self, name, title, function, drive, ours, peers, python, drive_python=None, unit=1, keep_states=False):
        self.name = name
        self.title = title
        self.function = function
        self.drive = drive
        self.ours = ours
        self.peers = peers
        self.python = python
        self.drive_python = drive_python or drive
        self.unit = unit
        self.keep_states = keep_states

    def candidates(self, contenders, runtimes):
        names = [f"{runtime}_{way}" for runtime in runtimes for way in self.ours]
        runs = {
            name: functools.partial(self.drive, getattr(contenders[name], self.function))
            for name in [*names, *self.peers]
            if name != "floor"
        }
        if "floor" in self.peers:
            runs["floor"] = functools.partial(floor, contenders["floor"].round_trips)
        runs["python"] = functools.partial(self.drive_python, self.python)
        return {name: Candidate(run, self.unit) for name, run in runs.items()}

    def measure(self, event_loop, contenders, runtimes, arguments, emit):
        if self.keep_states and not arguments.keep_states:
            if "tokio" in runtimes:
                sampling = "--repetitions", arguments.repetitions, "--seconds", arguments.seconds
                lines = child.run(arguments, "--keep-states", "--workload", self.name, *sampling)
                for line in lines.splitlines():
                    emit(json.loads(line))
            else:
                progress(f"{self.name}: left out, it needs tokio")
            return
        progress(f"{self.name}: {self.title}")
        candidates = self.candidates(contenders, runtimes)
        measured = interleaved(event_loop, candidates, arguments.repetitions, arguments.seconds)
        for candidate, record in measured.items():
            emit({"workload": self.name, "title": self.title, "candidate": candidate, "unit": "s", **record})


WORKLOADS = [
    Workload(
        "W1e", "await of a future that is ready at once", "ready", sequential,
        ["eager", "local"], ["peer", "native"], noop,
    ),
    Workload(
        "W1", "the same, spawned", "ready", sequential,
        ["coroutine", "future"], ["peer"], completed_soon,
    ),
    Workload(
        "W2", "the future spawns a task and awaits it", "spawn_once", sequential,
        ["coroutine", "eager", "local", "future"], ["peer", "native", "floor"], in_executor,
    ),
    Workload(
        "W2c", "100 tasks that do so at the same time", "spawn_once", concurrent,
        ["coroutine", "eager", "local", "future"], ["peer", "native"], yields, unit=TASKS,
    ),
    Workload(
        "W3f", "gather of 10,000 asyncio futures, each yields once", "yield_once", fan_out,
        ["future"], ["peer"], yields, unit=FAN_OUT,
    ),
    Workload(
        "W3", "gather of 10,000 coroutines, each yields once", "yield_once", fan_out,
        ["coroutine", "eager", "local"], ["peer", "native"], yields, unit=FAN_OUT,
    ),
    Workload(
        "W4a", "Rust awaits a Python coroutine that does not suspend", "call_sequentially", calls,
        ["coroutine", "local"], ["peer"], None, python_calls,
    ),
    Workload(
        "W4c", "the same, called by the worker, which attaches", "call_attached", calls,
        ["coroutine", "local"], ["peer"], None, python_calls,
    ),
    Workload(
        "W4k", "the same as W4c on threads that keep their Python thread state", "call_attached", calls,
        ["coroutine", "local"], ["peer"], None, python_calls, keep_states=True,
    ),
    Workload(
        "W4b", "10,000 Python coroutines at once, awaited by Rust", "call_at_once", calls_at_once,
        ["coroutine", "local"], ["peer"], None, python_calls_at_once, unit=FAN_OUT,
    ),
    Workload(
        "W5a", "Rust sums the items of an asynchronous generator", "consume", consume,
        ["stream"], ["peer"], None, python_consume,
    ),
    Workload(
        "W5b", "async for over a Rust stream, fed by a channel", "items", iterate,
        ["stream", "local_stream"], ["peer", "native"], generate,
    ),
]  # fmt: skip


def find(name):
    return next(workload for workload in WORKLOADS if workload.name == name)


def choose(names):
    return [workload for workload in WORKLOADS if not names or workload.name in names]
