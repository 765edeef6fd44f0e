"""Times candidates in turns: A B C, A B C, ..."""

import asyncio
import gc
import sys
import time
from typing import Callable, NamedTuple


class Candidate(NamedTuple):
    """What is timed: a function of a number of operations, which is to be a multiple of `unit`.

    It gives a coroutine that runs them and raises if what came of them is wrong.
    """

    run: Callable
    unit: int = 1


def new_event_loop(kind):
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def progress(text):
    print(text, file=sys.stderr, flush=True)


def interleaved(event_loop, candidates, repetitions, seconds):
    """Seconds of one operation, for each candidate and repetition. A sample takes about `seconds`."""
    counts = {name: calibrate(event_loop, candidate, seconds) for name, candidate in candidates.items()}
    return in_turns(
        {
            name: (counts[name], lambda name=name, run=candidate.run: sample(event_loop, run, counts[name]))
            for name, candidate in candidates.items()
        },
        repetitions,
    )


def in_turns(samplers, repetitions):
    """The samples of each of these, by name: how many operations make a sample, and a function that takes one."""
    samples = {name: [] for name in samplers}
    for _ in range(repetitions):
        for name, (_, take) in samplers.items():
            samples[name].append(take())
    return {name: {"operations": operations, "samples": samples[name]} for name, (operations, _) in samplers.items()}


def calibrate(event_loop, candidate, seconds):
    count = candidate.unit
    while True:
        elapsed = sample(event_loop, candidate.run, count) * count
        if elapsed >= seconds / 4:
            return max(1, round(seconds / elapsed * count / candidate.unit)) * candidate.unit
        count *= 2


def sample(event_loop, run, count):
    # What the one before has left is not this one's.
    gc.collect()
    start = time.perf_counter()
    event_loop.run_until_complete(run(count))
    return (time.perf_counter() - start) / count
