"""W8: the cost of one item as the work grows. It should stay flat."""

import functools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import memory
import workloads
from timing import interleaved, new_event_loop, progress

NAME = "W8"


def measure(event_loop, contenders, runtimes, arguments, emit):
    quick = arguments.seconds < 0.05
    fan_outs(event_loop, contenders, runtimes, arguments, emit, [1_000, 10_000] if quick else [1_000, 10_000, 100_000, 1_000_000])
    pending(runtimes, arguments, emit, [1_000, 10_000] if quick else [1_000, 10_000, 100_000, 1_000_000])
    event_loops(contenders, runtimes, arguments, emit, [1, 2])
    workers(runtimes, arguments, emit, [1, 2] if quick else [1, 2, 4, 8])


def fan_outs(event_loop, contenders, runtimes, arguments, emit, widths):
    """`gather` of more and more futures."""
    for width in widths:
        progress(f"{NAME}: fan-out of {width}")
        functions = {f"{runtime}_future": contenders[f"{runtime}_future"].yield_once for runtime in runtimes}
        if width <= 10_000:
            # It takes minutes for more, at times.
            functions["peer"] = contenders["peer"].yield_once
        functions["python"] = workloads.yields
        candidates = {
            name: functools.partial(workloads.fan_out, function, width=width) for name, function in functions.items()
        }
        repetitions = max(1, arguments.repetitions // 3) if width > 10_000 else arguments.repetitions
        measured = interleaved(event_loop, candidates, repetitions, arguments.seconds, width)
        for candidate, record in measured.items():
            emit({"workload": f"{NAME}: fan-out of {width}", "title": "time of each", "candidate": candidate, "unit": "s", **record})


def pending(runtimes, arguments, emit, counts):
    """Memory of more and more futures."""
    for count in counts:
        progress(f"{NAME}: {count} pending")
        for name in [*(f"{runtime}_{way}" for runtime in runtimes for way in ["coroutine", "future"]), "python"]:
            size = memory.in_a_child(arguments, name, "bare", count)
            emit({
                "workload": f"{NAME}: {count} pending", "title": "memory of each", "candidate": name, "unit": "B",
                "operations": count, "samples": [size],
            })  # fmt: skip


def event_loops(contenders, runtimes, arguments, emit, counts):
    """More and more event loops, each in a thread of its own; the seconds of one operation of any of them."""
    count = workloads.TASKS * max(1, round(200 * arguments.seconds))
    for threads in counts:
        progress(f"{NAME}: {threads} event loop(s)")
        for runtime in runtimes:
            function = contenders[f"{runtime}_coroutine"].spawn_once
            samples = [in_threads(arguments, function, count, threads) for _ in range(arguments.repetitions)]
            emit({
                "workload": f"{NAME}: {threads} event loop(s)", "title": "100 tasks in each, time of one await",
                "candidate": f"{runtime}_coroutine", "unit": "s", "operations": count, "samples": samples,
            })  # fmt: skip


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
    for count in counts:
        progress(f"{NAME}: {count} worker thread(s)")
        command = [sys.executable, Path(__file__).parent, "--workload", "W2c", "--workers", str(count)]
        command += ["--event-loop", arguments.event_loop, "--cores", arguments.cores]
        command += ["--seconds", str(arguments.seconds), "--repetitions", str(arguments.repetitions)]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        for record in map(json.loads, lines):
            if record["candidate"] in ["tokio_coroutine", "peer"]:
                emit({**record, "workload": f"{NAME}: {count} worker thread(s)"})
