"""Random programs that run twice, with Rust futures and with what Python has in their place: both do the same.

The Rust runtime polls only when it is told to, so that a program does the same each time.
A program that fails is made smaller and printed. They are the same in each run; `--hypothesis-seed` leads to others.
"""

import asyncio
import collections
import contextvars
import gc
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import bridge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import programs_at_random, seeded, turns

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")

# More than any program needs to come to rest.
TURNS = 40


class InRust:
    """Rust futures, and how they go on."""

    def __init__(self):
        self.runtime = bridge.Stepwise()
        self.gates = collections.defaultdict(bridge.Gate)
        self.waiting = set()

    def wait(self, way, number, value, error):
        self.waiting.add(number)
        return self.runtime.wait(way, self.gates[number], value, error)

    def call(self, way, make):
        return self.runtime.call(way, make)

    def open(self, number):
        self.gates[number].open(1)

    async def rest(self):
        # A loop that a thread has to wake may find little at a time.
        is_helped = type(asyncio.get_running_loop()).add_reader is asyncio.AbstractEventLoop.add_reader
        polls = True
        while polls:
            await turns(TURNS)
            polls = self.runtime.run()
            for _ in range(8 if is_helped else 1):
                # It comes after all that was on its way to the loop.
                await self.marker()
                await turns(TURNS if is_helped else 0)

    async def marker(self):
        gate = bridge.Gate()
        gate.open(1)
        future = self.runtime.wait("future", gate, None, None)
        self.runtime.run()
        await future

    def left(self):
        """Those whose Rust future was not dropped."""
        self.runtime.run()
        return [number for number in self.waiting if self.gates[number].dropped != 1]


class InPython:
    """What Python has in their place."""

    def __init__(self):
        self.gates = collections.defaultdict(lambda: asyncio.get_running_loop().create_future())

    def wait(self, way, number, value, error):
        return self.of_way(way, self.leaf(number, value, error))

    async def leaf(self, number, value, error):
        await asyncio.wait([self.gates[number]])
        if error is not None:
            raise error
        return value

    def call(self, way, make):
        return self.of_way(way, self.called(make))

    async def called(self, make):
        context = contextvars.copy_context()
        task = context.run(lambda: asyncio.ensure_future(make()))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # The future is dropped: nobody waits for what becomes of the task.
            task.cancel()
            raise
        return task.result()

    def of_way(self, way, coroutine):
        if way != "future":
            return coroutine
        # Not by a factory of the loop's, which may begin it in place.
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop())

    def open(self, number):
        if not self.gates[number].done():
            self.gates[number].set_result(None)

    async def rest(self):
        await turns(TURNS)

    def left(self):
        return []


def described(error):
    """What can be compared of an exception. The messages of a cancellation differ between the versions of Python."""
    if error is None:
        return None
    if hasattr(error, "exceptions"):
        return type(error).__name__, sorted(map(repr, map(described, error.exceptions)))
    arguments = () if isinstance(error, (asyncio.CancelledError, asyncio.TimeoutError)) else error.args
    return type(error).__name__, arguments, described(error.__cause__)


class Run:
    """One run of a program, and what is seen of it."""

    def __init__(self, subject, program):
        self.subject = subject
        self.program = program
        # Who has done what, by the step of the program; the order in which several do theirs is left open.
        self.seen = {}
        self.step = 0
        # By the number of the node that has made it.
        self.futures = {}
        self.timeouts = []
        # Who waits until all is at rest, by the number of the node.
        self.waiting = []

    def see(self, who, *what):
        self.seen.setdefault((self.step, who), []).append(what)

    def keep(self, node, future):
        if asyncio.isfuture(future):
            self.futures[node.number] = future
        return future

    def start(self, node):
        return self.keep(node, asyncio.ensure_future(node.make(self)))

    def future(self, choice):
        """That of one of the program's nodes, if it has one."""
        return self.futures.get(self.choose(choice, Node))

    def choose(self, choice, of):
        """The number of one of the program's nodes of this kind."""
        numbers = [node.number for node in self.program.nodes if isinstance(node, of)]
        return numbers[choice % len(numbers)] if numbers else None

    async def at_rest(self, node):
        """Waits until what takes longer in Rust is there too."""
        waiting = asyncio.get_running_loop().create_future()
        self.waiting.append((node.number, waiting))
        await waiting

    async def rest(self):
        await self.subject.rest()
        while self.waiting:
            # One at a time, and in the order of the program: who came first is chance.
            first = min(self.waiting, key=lambda entry: entry[0])
            self.waiting.remove(first)
            if not first[1].done():
                first[1].set_result(None)
                await self.subject.rest()

    def see_states(self):
        for number, future in self.futures.items():
            # Whether one has failed, only those are told who ask: it changes what is reported.
            state = "cancelled" if future.cancelled() else "done" if future.done() else "pending"
            self.see(f"future {number}", state)

    async def end(self):
        """Cancels what is left."""
        while left := [future for _, future in sorted(self.futures.items()) if not future.done()]:
            for future in left:
                future.cancel()
            await self.rest()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await self.rest()


# What gives an awaitable


class Node:
    number = 0

    def children(self):
        return []


@dataclass
class Leaf(Node):
    way: str
    end: str

    def make(self, run):
        errors = {"fails": ValueError, "is cancelled": asyncio.CancelledError, "stops": StopAsyncIteration}
        error = errors[self.end](f"of {self.number}") if self.end in errors else None
        return run.keep(self, run.subject.wait(self.way, self.number, ("value", self.number), error))


@dataclass
class Call(Node):
    way: str
    node: Node

    def make(self, run):
        return run.keep(self, run.subject.call(self.way, lambda: self.called(run)))

    async def called(self, run):
        await run.at_rest(self)
        return await self.node.make(run)

    def children(self):
        return [self.node]


@dataclass
class Task(Node):
    node: Node

    def make(self, run):
        return run.start(self.node)

    def children(self):
        return [self.node]


@dataclass
class Gather(Node):
    nodes: list
    return_exceptions: bool

    def make(self, run):
        nodes = [run.start(node) for node in self.nodes]
        return run.keep(self, asyncio.gather(*nodes, return_exceptions=self.return_exceptions))

    def children(self):
        return self.nodes


@dataclass
class Shield(Node):
    node: Node

    def make(self, run):
        return run.keep(self, asyncio.shield(run.start(self.node)))

    def children(self):
        return [self.node]


@dataclass
class WaitFor(Node):
    node: Node
    timeout: Any

    async def make(self, run):
        return await asyncio.wait_for(self.node.make(run), self.timeout)

    def children(self):
        return [self.node]


@dataclass
class Wait(Node):
    nodes: list
    until: str

    async def make(self, run):
        futures = [run.start(node) for node in self.nodes]
        await asyncio.wait(futures, return_when=self.until)
        # Others may have ended in the same moment.
        await run.at_rest(self)
        return [number for number, future in enumerate(futures) if future.done()]

    def children(self):
        return self.nodes


@dataclass
class Group(Node):
    nodes: list
    body: list

    async def make(self, run):
        if sys.version_info < (3, 11):
            return await Gather(self.nodes, False).make(run)
        async with asyncio.TaskGroup() as group:
            for node in self.nodes:
                # It takes coroutines only, and ours may be a future.
                run.keep(node, group.create_task(awaited(node, run)))
            await do(self.body, run, self)

    def children(self):
        return self.nodes + self.body


async def awaited(node, run):
    return await node.make(run)


@dataclass
class Earlier(Node):
    """A leaf that others wait for already: anything else may be what waits for this."""

    choice: int

    async def make(self, run):
        await run.at_rest(self)
        earlier = run.futures.get(run.choose(self.choice, Leaf))
        return None if earlier is None else await earlier


@dataclass
class Body(Node):
    statements: list

    async def make(self, run):
        run.see(self.number, "begins", VARIABLE.get())
        try:
            await do(self.statements, run, self)
        except BaseException as error:
            run.see(self.number, "raises", described(error), VARIABLE.get())
            raise
        run.see(self.number, "ends", VARIABLE.get(), getattr(asyncio.current_task(), "cancelling", int)())
        return self.number

    def children(self):
        return self.statements


# What a body does


async def do(statements, run, body):
    for statement in statements:
        await statement.do(run, body)


@dataclass
class Await(Node):
    node: Node

    async def do(self, run, body):
        try:
            value = await self.node.make(run)
        except BaseException as error:
            run.see(body.number, "awaited", described(error))
            raise
        run.see(body.number, "awaited", repr(value))

    def children(self):
        return [self.node]


@dataclass
class Try(Node):
    statements: list
    all: bool
    handler: list
    again: bool

    async def do(self, run, body):
        try:
            await do(self.statements, run, body)
        except BaseException if self.all else Exception as error:
            if isinstance(error, GeneratorExit):
                raise
            run.see(body.number, "catches", described(error))
            await do(self.handler, run, body)
            if self.again:
                raise

    def children(self):
        return self.statements + self.handler


@dataclass
class Timeout(Node):
    statements: list

    async def do(self, run, body):
        if sys.version_info < (3, 11):
            return await do(self.statements, run, body)
        async with asyncio.timeout(None) as timeout:
            run.timeouts.append(timeout)
            await do(self.statements, run, body)
        run.see(body.number, "in time", not timeout.expired())

    def children(self):
        return self.statements


@dataclass
class Start(Node):
    node: Node

    async def do(self, run, body):
        run.start(self.node)

    def children(self):
        return [self.node]


@dataclass
class Set(Node):
    value: int

    async def do(self, run, body):
        VARIABLE.set(self.value)


@dataclass
class Raise(Node):
    async def do(self, run, body):
        raise KeyError(self.number)


# What is done from outside, and what a body may do as well


@dataclass
class Act(Node):
    kind: str
    choice: int

    async def do(self, run, body):
        await run.at_rest(self)
        if self.kind != "open" and run.future(self.choice) is not asyncio.current_task():
            self.act(run, body.number)

    def act(self, run, who):
        if self.kind == "open":
            run.subject.open(run.choose(self.choice, Leaf))
        elif self.kind == "expire":
            active = [timeout for timeout in run.timeouts if timeout._state.value == "active"]
            if active:
                active[self.choice % len(active)].reschedule(asyncio.get_running_loop().time() - 1)
        elif self.kind == "collect":
            gc.collect()
        elif (future := run.future(self.choice)) is not None:
            number = run.choose(self.choice, Node)
            if self.kind == "cancel":
                run.see(who, "cancels", number, future.cancel())
            elif self.kind == "call back":
                future.add_done_callback(lambda done: run.see(f"of {number}", done is future, done.done()))
            elif self.kind == "call back, fail":
                future.add_done_callback(lambda done: run.see(f"of {number}", 1 / 0))
            elif self.kind == "ask" and future.done():
                error = None if future.cancelled() else described(future.exception())
                run.see(who, "asks", number, future.cancelled(), error)


few = st.integers(0, 12)
ways = st.sampled_from(["coroutine", "eager", "local", "future"])
leaves = st.builds(Leaf, ways, st.sampled_from(["", "", "fails", "fails", "is cancelled", "stops"])) | st.builds(
    Earlier, few
)
KINDS = ["open"] * 4 + ["cancel"] * 3 + ["expire", "call back", "call back, fail", "ask", "collect"]
acts = st.builds(Act, st.sampled_from(KINDS), few)


def branches(nodes):
    several = st.lists(nodes, min_size=1, max_size=3)
    simple = st.one_of(
        st.builds(Await, nodes),
        st.builds(Await, nodes),
        st.builds(Start, nodes),
        st.builds(Set, few),
        st.builds(Raise),
        acts,
    )
    simples = st.lists(simple, max_size=2)
    statement = st.one_of(
        simple,
        st.builds(Try, simples, st.booleans(), simples, st.booleans()),
        st.builds(Timeout, simples),
    )
    return st.one_of(
        st.builds(Body, st.lists(statement, min_size=1, max_size=3)),
        st.builds(Body, st.lists(statement, min_size=1, max_size=3)),
        st.builds(Call, ways, nodes),
        st.builds(Task, nodes),
        st.builds(Gather, several, st.booleans()),
        st.builds(Shield, nodes),
        st.builds(WaitFor, nodes, st.sampled_from([None, 0])),
        st.builds(Wait, several, st.sampled_from(["FIRST_COMPLETED", "ALL_COMPLETED"])),
        st.builds(Group, several, simples),
    )


trees = st.recursive(leaves, branches, max_leaves=6)


@dataclass
class Program:
    roots: list
    steps: list
    debug: bool
    eager: bool

    def __post_init__(self):
        self.nodes = []
        left = self.roots[::-1]
        while left:
            node = left.pop()
            self.nodes.append(node)
            node.number = len(self.nodes)
            left += node.children()[::-1]


programs = st.builds(
    Program,
    # What happens to a future that nobody waits for is as good a question.
    st.lists(leaves | trees, min_size=1, max_size=3),
    # One at a time: a cancellation in Rust takes longer than one in Python, and might come before or after another.
    st.lists(acts, max_size=12),
    st.booleans(),
    st.booleans(),
)


async def drive(run, program):
    for root in program.roots:
        run.start(root)
    await run.rest()
    run.see_states()
    for step in program.steps:
        run.step += 1
        step.act(run, "outside")
        await run.rest()
        run.see_states()
    run.step += 1
    await run.end()


def begun_at_once(loop, coroutine, **keywords):
    """asyncio's own factory takes less on some versions than uvloop gives."""
    return asyncio.Task(coroutine, loop=loop, **{**keywords, "eager_start": True})


def run_program(subject, program, new_loop, reports):
    """All that is seen of a program."""
    run = Run(subject, program)
    loop = new_loop()
    loop.set_debug(program.debug)
    loop.slow_callback_duration = 60
    if program.eager and sys.version_info >= (3, 12):
        loop.set_task_factory(begun_at_once)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        task = asyncio.Task(drive(run, program), loop=loop)
        loop.call_later(40, task.cancel, "the program hangs")
        loop.run_until_complete(task)
        loop.close()
        run.futures.clear()
        run.timeouts.clear()
        del task
        said = []
        # A report may keep what has one more to make.
        while new := [(report["message"], repr(described(report.get("exception")))) for report in reports.take()]:
            said += new
    assert subject.left() == []
    known = "never retrieved", "exception in callback", ""
    said = sorted((next(words for words in known if words in message.lower()), error) for message, error in said)
    return {**run.seen, "reports": said, "warnings": sorted(warning.category.__name__ for warning in warned)}


def differences(in_rust, in_python):
    """What was seen in one run and not in the other."""
    keys = in_rust.keys() | in_python.keys()
    both = {key: (in_rust.get(key), in_python.get(key)) for key in keys}
    # A call begins a little later in Rust: what is cancelled at once may not have been made.
    unmade = {key for key, pair in both.items() if None in pair and [("cancelled",)] in pair}
    if unmade:
        unmade |= {"reports", "warnings"}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1] and key not in unmade}


@settings(programs_at_random, max_examples=60)
@given(programs)
def run_twice(new_loop, reports, unraisable, program):
    in_python = run_program(InPython(), program, new_loop, reports)
    assert unraisable == []
    in_rust = run_program(InRust(), program, new_loop, reports)
    assert unraisable == []
    assert differences(in_rust, in_python) == {}


@pytest.mark.parametrize("part", range(2))
def test_random_programs(request, new_loop, reports, monkeypatch, part):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append((args.exc_value, args.object)))
    gc.collect()
    gc.freeze()
    seeded(request, run_twice, part)(new_loop, reports, unraisable)
