"""Random trees of awaits, in which Rust and Python await each other, fail, panic and are cancelled at any time.

However such a tree ends, each Rust future is dropped once, each waiter is settled once, and nobody complains.
A tree that fails is made smaller and printed. They are the same in each run; `--hypothesis-seed` leads to others.
"""

import asyncio
import gc
import sys
import time
import types
from dataclasses import dataclass
from typing import Any

import bridge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import programs_at_random, seeded

# How many nodes of trees are run on each kind of loop, at least, and in how many tests.
STEPS = 10_000
PARTS = 8


class Run:
    """What is known of the trees that run on one loop."""

    def __init__(self):
        self.tally = bridge.Tally()
        # How often the waiter of each Rust future was settled.
        self.settled = []
        # All of them that are known to Python, so that none is forgotten while it waits.
        self.futures = []
        self.steps = 0

    def go(self, node):
        self.steps += 1
        return node.go(self)

    def start(self, node):
        future = asyncio.ensure_future(self.go(node))
        self.futures.append(future)
        return future


@dataclass
class Turns:
    count: int

    async def go(self, run):
        for _ in range(self.count):
            await asyncio.sleep(0)


@dataclass
class Fails:
    node: Any

    async def go(self, run):
        await run.go(self.node)
        raise ValueError("injected")


@dataclass
class Catches:
    """Nothing leaves it but a cancellation, and not even that always."""

    node: Any
    all: bool

    async def go(self, run):
        try:
            return await run.go(self.node)
        except BaseException if self.all else Exception as error:
            return error


@dataclass
class Rust:
    way: str
    before: int
    inner: Any
    after: int
    end: str
    watch: str

    async def go(self, run):
        number = len(run.settled)
        run.settled.append(0)

        def settled(_=None):
            run.settled[number] += 1

        inner = None if self.inner is None else lambda: run.go(self.inner)
        awaitable = run.tally.run(self.way, self.before, inner, self.after, self.end)
        if asyncio.isfuture(awaitable):
            run.futures.append(awaitable)
            awaitable.add_done_callback(settled)
            return await awaitable
        if self.watch == "waiter":
            return await watched(awaitable, settled)
        if self.watch == "task":
            awaitable = asyncio.ensure_future(awaitable)
            run.futures.append(awaitable)
            awaitable.add_done_callback(settled)
            return await awaitable
        try:
            return await awaitable
        finally:
            settled()


@types.coroutine
def watched(coroutine, settled):
    """Awaits, and has `settled` called back by the future that the coroutine waits for."""
    step = coroutine.send, None
    waits = False
    while True:
        function, argument = step
        try:
            yielded = function(argument)
        except BaseException as error:
            if not waits:
                settled()
            if isinstance(error, StopIteration):
                return error.value
            raise
        if not waits:
            waits = True
            yielded.add_done_callback(settled)
        try:
            step = coroutine.send, (yield yielded)
        except BaseException as error:
            step = coroutine.throw, error


@dataclass
class Gather:
    nodes: list
    return_exceptions: bool

    async def go(self, run):
        return await asyncio.gather(*map(run.start, self.nodes), return_exceptions=self.return_exceptions)


@dataclass
class Group:
    nodes: list

    async def go(self, run):
        if sys.version_info < (3, 11):
            return await Gather(self.nodes, False).go(run)
        async with asyncio.TaskGroup() as group:
            run.futures += [group.create_task(run.go(node)) for node in self.nodes]


@dataclass
class Shield:
    node: Any

    async def go(self, run):
        return await asyncio.shield(run.start(self.node))


@dataclass
class WaitFor:
    node: Any
    timeout: float

    async def go(self, run):
        return await asyncio.wait_for(run.go(self.node), self.timeout)


@dataclass
class CancelledAfter:
    node: Any
    turns: int

    async def go(self, run):
        future = run.start(self.node)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        future.cancel("injected")
        return await future


few = st.integers(0, 4)
leaves = st.builds(Turns, few) | st.builds(
    Rust,
    st.sampled_from(["coroutine", "eager", "local", "future"]),
    few,
    st.none(),
    few,
    st.sampled_from(["value", "error", "panic", "never", "clean up"]),
    st.sampled_from(["", "waiter", "task"]),
)


def branches(nodes):
    several = st.lists(nodes, min_size=1, max_size=4)
    return st.one_of(
        st.builds(
            Rust,
            st.sampled_from(["coroutine", "eager", "local", "future"]),
            few,
            nodes,
            few,
            st.sampled_from(["value", "value", "error", "panic", "never", "clean up", "drop", "detach"]),
            st.sampled_from(["", "waiter", "task"]),
        ),
        st.builds(Fails, nodes),
        st.builds(Catches, nodes, st.booleans()),
        st.builds(Gather, several, st.booleans()),
        st.builds(Group, several),
        st.builds(Shield, nodes),
        st.builds(WaitFor, nodes, st.sampled_from([0, 0.001, 20])),
        st.builds(CancelledAfter, nodes, few),
    )


trees = st.recursive(leaves, branches, max_leaves=10)
# Each tree is cancelled after some turns, if it has not ended before.
forests = st.lists(st.tuples(trees, st.integers(0, 30)), min_size=5, max_size=10)


async def drive(run, forest):
    roots = [(run.start(tree), turns) for tree, turns in forest]
    for turn in range(31):
        for root, turns in roots:
            if turn == turns:
                root.cancel()
        await asyncio.sleep(0)
    # Whatever waits for ever, or was shielded, is cancelled until it gives up.
    ours = asyncio.current_task()
    while True:
        # What was posted before this is delivered before it: a detached awaitable may not have been.
        await bridge.value("coroutine", None, False)
        left = {future for future in run.futures if not future.done()} | asyncio.all_tasks() - {ours}
        if not left:
            break
        for future in left:
            future.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    deadline = time.monotonic() + 20
    while any(drops == 0 for drops in run.tally.drops) and time.monotonic() < deadline:
        await asyncio.sleep(0)


def on_purpose(error):
    """Whether the nodes raise it, alone or in groups."""
    if hasattr(error, "exceptions"):
        return all(map(on_purpose, error.exceptions))
    injected = isinstance(error, (ValueError, bridge.RustPanic)) and str(error) == "injected"
    return injected or isinstance(error, asyncio.TimeoutError)


def expected(report):
    """Whoever is cancelled does not retrieve an error that comes at the same time, and asyncio says so.

    Since Python 3.14 so does `asyncio.shield`.
    """
    said = "never retrieved" in report["message"] or report["message"].endswith("exception in shielded future")
    return said and on_purpose(report.get("exception"))


@settings(programs_at_random, max_examples=120)
@given(forests)
def run_forest(new_loop, reports, unraisable, count, forest):
    unraisable.clear()
    run = Run()
    loop = new_loop()
    task = loop.create_task(drive(run, forest))
    loop.call_later(40, task.cancel, "the trees hang")
    loop.run_until_complete(task)
    loop.close()
    count(run.steps)
    assert run.tally.drops == [1] * len(run.tally.drops)
    assert run.settled == [1] * len(run.settled)
    assert len(run.settled) == len(run.tally.drops)
    for future in run.futures:
        error = None if future.cancelled() else future.exception()
        assert error is None or on_purpose(error), error
    del future
    run.futures.clear()
    assert [report for report in reports.take() if not expected(report)] == []
    assert unraisable == []


@pytest.mark.parametrize("part", range(PARTS))
def test_random_trees(request, new_loop, reports, monkeypatch, part):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append((args.exc_value, args.object)))
    steps = []
    # Each example collects its garbage: what is there before need not be looked through each time.
    gc.collect()
    gc.freeze()
    seeded(request, run_forest, part)(new_loop, reports, unraisable, steps.append)
    gc.collect()
    assert unraisable == []
    assert sum(steps) >= STEPS / PARTS
