"""W6: completions at a fixed rate, beside a ticker that shows how long the event loop keeps others waiting."""

import asyncio
import functools
import time

import workloads
from timing import progress

NAME = "W6"
TITLE = "50,000 completions a second beside a 1 ms ticker"

RATE = 50_000
TICK = 0.001
# What is started and not completed yet is bounded: whoever falls behind is to be measured, not to fill the memory.
IN_FLIGHT = RATE // 2


def measure_all(event_loop, contenders, runtimes, arguments, emit):
    progress(f"{NAME}: {TITLE}")
    candidates = {f"{runtime}_future": contenders[f"{runtime}_future"].yield_once for runtime in runtimes}
    candidates["peer"] = contenders["peer"].yield_once
    candidates["native"] = functools.partial(task_of, contenders["native"].yield_once)
    candidates["python"] = workloads.completed_soon
    # Long enough for the 99th percentile to be that of many late ticks, not of a few.
    seconds = 100 * arguments.seconds
    measured = {name: [] for name in candidates}
    for _ in range(max(1, arguments.repetitions // 3)):
        for name, start in candidates.items():
            measured[name].append(event_loop.run_until_complete(under_load(start, seconds)))
    for name, runs in measured.items():
        for metric, unit, samples in zip(["completions", "p99 of the ticker", "CPU time"], ["/s", "s", "s"], zip(*runs)):
            emit({
                "workload": f"{NAME}: {metric}", "title": TITLE, "candidate": name, "unit": unit,
                "operations": RATE, "samples": list(samples),
            })  # fmt: skip


def task_of(function):
    return asyncio.ensure_future(function())


async def under_load(start, seconds):
    """Completions a second, the 99th percentile of the ticker's lateness, CPU seconds of one completion."""
    completed = 0
    failure = None

    def complete(future):
        nonlocal completed, failure
        # A failure is completed too, else it would be waited for without end.
        completed += 1
        try:
            workloads.expect(future.result())
        except (Exception, asyncio.CancelledError) as error:
            failure = failure or error

    lateness = []
    ticker = asyncio.ensure_future(tick(lateness))
    cpu, began = time.process_time(), time.perf_counter()
    started = 0
    while (elapsed := time.perf_counter() - began) < seconds:
        for _ in range(min(int(elapsed * RATE) - started, IN_FLIGHT - (started - completed), RATE // 100)):
            start().add_done_callback(complete)
            started += 1
        await asyncio.sleep(TICK)
    elapsed = time.perf_counter() - began
    in_time = completed
    cpu = time.process_time() - cpu
    ticker.cancel()
    while completed < started:
        await asyncio.sleep(TICK)
    if failure:
        raise failure
    # Who never lets the ticker run, or completes nothing in time, has a figure too: the worst that there is.
    lateness = sorted(lateness) or [elapsed]
    return in_time / elapsed, lateness[len(lateness) * 99 // 100], cpu / max(1, in_time)


async def tick(lateness):
    while True:
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        lateness.append(time.perf_counter() - due)
