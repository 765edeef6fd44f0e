"""Times candidates in turns: A B C, A B C, ..."""

import asyncio
import gc
import sys
import time


def new_event_loop(kind):
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def progress(text):
    print(text, file=sys.stderr, flush=True)


def interleaved(event_loop, candidates, repetitions, seconds, unit):
    """Seconds of one operation, for each candidate and repetition.

    A candidate is a function of a number of operations; it gives a coroutine that runs them and raises if what came
    of them is wrong. The number is a multiple of `unit`, such that a sample takes about `seconds`.
    """
    counts = {name: calibrate(event_loop, run, seconds, unit) for name, run in candidates.items()}
    samples = {name: [] for name in candidates}
    for _ in range(repetitions):
        for name, run in candidates.items():
            samples[name].append(sample(event_loop, run, counts[name]))
    return {name: {"operations": counts[name], "samples": samples[name]} for name in candidates}


def calibrate(event_loop, run, seconds, unit):
    count = unit
    while True:
        elapsed = sample(event_loop, run, count) * count
        if elapsed >= seconds / 4:
            return max(1, round(seconds / elapsed * count / unit)) * unit
        count *= 2


def sample(event_loop, run, count):
    # What the one before has left is not this one's.
    gc.collect()
    start = time.perf_counter()
    event_loop.run_until_complete(run(count))
    return (time.perf_counter() - start) / count
