"""What several test files use."""

import asyncio
import threading

import pytest
from hypothesis import HealthCheck, Phase, seed, settings

# The ways that give a coroutine.
coroutine_ways = pytest.mark.parametrize("way", ["coroutine", "eager", "local"])

# The ways in which a future that has to wait is the runtime's: it goes on, and ends, while the event loop does not run.
spawned_ways = pytest.mark.parametrize("way", ["coroutine", "eager", "future"])


# How programs that are made at random are run: they take their time, and what fails is printed.
programs_at_random = settings(
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def seeded(request, test, part):
    """The same programs in each run, others in each part; other ones yet with `--hypothesis-seed`."""
    return seed(f"{request.config.getoption('--hypothesis-seed')}/{part}")(test)


def outcome(function, *arguments, **keywords):
    """What a call returns or raises, as something that can be compared."""
    try:
        return "returned", function(*arguments, **keywords)
    except BaseException as error:
        return "raised", type(error), str(error)


async def outcome_of(awaitable):
    """What an awaitable returns or raises, likewise."""
    try:
        return "returned", await awaitable
    except BaseException as error:
        return "raised", type(error), str(error)


async def turns(count=5):
    """Lets the event loop make a few turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def drops(gate, count):
    """Lets the event loop run until futures have been dropped: those that stay on its thread need it for that."""
    while gate.dropped < count:
        await asyncio.sleep(0)


async def settle(future):
    """Waits for a future that was yielded by a coroutine which the test drives by hand."""
    future._asyncio_future_blocking = False
    await asyncio.wait([future])


async def in_task(awaitable):
    """Awaits, as a coroutine: for what takes nothing else."""
    return await awaitable


def interrupted_in(loop_class, method):
    """A kind of event loop in whose method Ctrl-C comes, the next time after `interrupted` is set."""

    class Loop(loop_class):
        interrupted = False

    def call(self, *args, **keywords):
        # Signals are the main thread's business.
        if self.interrupted and threading.current_thread() is threading.main_thread():
            self.interrupted = False
            raise KeyboardInterrupt
        return getattr(super(Loop, self), method)(*args, **keywords)

    setattr(Loop, method, call)
    return Loop
