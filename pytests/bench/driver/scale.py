"""W8: the cost of one item as the work grows. It should stay flat.

All sizes of a series take turns, as the contenders do, so that what a large one costs more is not the machine's drift.
"""

import asyncio
import functools
import json
import threading
import time

import child
import memory
import workloads
from timing import Candidate, in_turns, interleaved, new_event_loop, progress

# A peer takes minutes for more than this, at times.
PEER_AT_MOST = {"fan-out": 10_000, "pending": 100_000, "streams": 100}

# How many items each stream has: what it costs to start one is in the figure, the same for every number of streams.
ITEMS = 100


def measure(event_loop, contenders, runtimes, arguments, emit):
    quick = arguments.seconds < 0.05
    sizes = [1_000, 10_000] if quick else [1_000, 10_000, 100_000, 1_000_000]
    fan_outs(event_loop, contenders, runtimes, arguments, emit, sizes)
    pending(runtimes, arguments, emit, sizes)
    streams(event_loop, contenders, runtimes, arguments, emit, [10, 100] if quick else [10, 100, 1_000, 10_000])
    event_loops(contenders, runtimes, arguments, emit, [1, 2])
    workers(runtimes, arguments, emit, [1, 2] if quick else [1, 2, 4, 8])


def emit_all(emit, workload, title, measured, unit="s"):
    """Emits what was measured, by candidate and size."""
    for (candidate, size), record in measured.items():
        emit({"workload": workload, "title": title, "candidate": candidate, "unit": unit, "size": size, **record})


def turns(arguments):
    return max(1, arguments.repetitions // 3)


def fan_outs(event_loop, contenders, runtimes, arguments, emit, widths):
    """`gather` of more and more futures."""
    progress("W8: fan-out")
    functions = {f"{runtime}_future": contenders[f"{runtime}_future"].yield_once for runtime in runtimes}
    functions |= {"peer": contenders["peer"].yield_once, "python": workloads.yields}
    candidates = {
        (name, width): Candidate(functools.partial(workloads.fan_out, function, width=width), width)
        for width in widths
        for name, function in functions.items()
        if name != "peer" or width <= PEER_AT_MOST["fan-out"]
    }
    measured = interleaved(event_loop, candidates, turns(arguments), arguments.seconds)
    emit_all(emit, "W8 fan-out", "gather of asyncio futures, each yields once", measured)


def pending(runtimes, arguments, emit, counts):
    """Memory of more and more futures."""
    progress("W8: pending")
    names = [*(f"{runtime}_{way}" for runtime in runtimes for way in ["coroutine", "future"]), "peer", "python"]
    samplers = {
        (name, count): (count, functools.partial(memory.in_a_child, arguments, name, "bare", count))
        for count in counts
        for name in names
        if name != "peer" or count <= PEER_AT_MOST["pending"]
    }
    # Each is a process of its own; there is next to nothing that drifts.
    measured = in_turns(samplers, 1 if arguments.seconds < 0.05 else 3)
    emit_all(emit, "W8 pending", "memory of each pending future", measured, "B")


def streams(event_loop, contenders, runtimes, arguments, emit, widths):
    """More and more streams at the same time, in both directions."""
    directions = [
        ("to Python", "async for over Rust streams", "items", workloads.iterate, workloads.iterate),
        ("to Rust", "Rust sums asynchronous generators", "consume", workloads.consume, workloads.python_consume),
    ]
    for direction, title, function, drive, drive_python in directions:
        progress(f"W8: streams {direction}")
        ways = {name: functools.partial(drive, getattr(contenders[name], function)) for name in [
            *(f"{runtime}_stream" for runtime in runtimes), "peer",
        ]}  # fmt: skip
        ways["python"] = functools.partial(drive_python, workloads.generate)
        candidates = {
            (name, width): Candidate(functools.partial(at_once, way, width), width * ITEMS)
            for width in widths
            for name, way in ways.items()
            if name != "peer" or width <= PEER_AT_MOST["streams"]
        }
        measured = interleaved(event_loop, candidates, turns(arguments), arguments.seconds)
        emit_all(emit, f"W8 streams {direction}", f"{title}, {ITEMS} items each, time of one item", measured)


async def at_once(way, width, count):
    """`width` streams at the same time, until `count` items have passed."""
    for _ in range(count // (width * ITEMS)):
        await asyncio.gather(*(way(ITEMS) for _ in range(width)))


def event_loops(contenders, runtimes, arguments, emit, counts):
    """More and more event loops, each in a thread of its own; the seconds of one operation of any of them."""
    progress("W8: event loops")
    functions = {f"{runtime}_coroutine": contenders[f"{runtime}_coroutine"].spawn_once for runtime in runtimes}
    functions["python"] = workloads.yields
    operations = workloads.TASKS * max(1, round(2_000 * arguments.seconds))
    samplers = {
        (name, threads): (operations, functools.partial(in_threads, arguments, function, operations, threads))
        for threads in counts
        for name, function in functions.items()
    }
    measured = in_turns(samplers, arguments.repetitions)
    emit_all(emit, "W8 event loops", "100 tasks in each, time of one await", measured)


def in_threads(arguments, function, count, threads):
    failures = []
    ready = threading.Barrier(threads + 1)

    def run():
        try:
            event_loop = new_event_loop(arguments.event_loop)
            event_loop.run_until_complete(workloads.concurrent(function, workloads.TASKS))
            ready.wait()
            event_loop.run_until_complete(workloads.concurrent(function, count))
            event_loop.close()
        except BaseException as failure:
            failures.append(failure)
            ready.abort()
            raise

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in running:
        thread.join()
    elapsed = time.perf_counter() - start
    if failures:
        raise failures[0]
    return elapsed / (count * threads)


def workers(runtimes, arguments, emit, counts):
    """More and more threads of tokio's, each time in a process of its own."""
    if "tokio" not in runtimes:
        return
    progress("W8: worker threads")
    shown = ["tokio_coroutine", "tokio_future", "peer"]
    measured = {}
    for _ in range(turns(arguments)):
        for count in counts:
            lines = child.run(
                arguments, "--workload", "W2c", "--workers", count, "--repetitions", 1, "--seconds", arguments.seconds
            )
            for record in map(json.loads, lines.splitlines()):
                if record["candidate"] in shown:
                    key = record["candidate"], count
                    known = measured.setdefault(key, {"operations": record["operations"], "samples": []})
                    known["samples"] += record["samples"]
    emit_all(emit, "W8 worker threads", "100 tasks whose futures spawn a task each, time of one await", measured)
