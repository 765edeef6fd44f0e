"""W7: the memory of a future that waits, each time in a process of its own."""

import asyncio
import gc
import resource
import sys

import child
from timing import progress
from workloads import expect

NAME = "W7"
TITLE = "memory of one pending future"
FORMS = ["bare", "in a task"]


def measure_all(event_loop, contenders, runtimes, arguments, emit):
    progress(f"{NAME}: {TITLE}")
    count = 100_000 if arguments.seconds >= 0.05 else 20_000
    names = [f"{runtime}_{way}" for runtime in runtimes for way in ["coroutine", "eager", "local", "future"]]
    for form in FORMS:
        # PyO3's own coroutine has nothing that waits outside of a task.
        others = ["peer", "python"] if form == "bare" else ["peer", "native", "python"]
        for name in [*names, *others]:
            emit({
                "workload": f"{NAME}: {form}", "title": TITLE, "candidate": name, "unit": "B",
                "operations": count, "samples": [in_a_child(arguments, name, form, count)],
            })  # fmt: skip


def in_a_child(arguments, name, form, count):
    return float(child.run(arguments, "--pending", name, form, count))


def measure(event_loop, contender, form, count):
    """Bytes of each of `count` pending futures."""

    async def pending():
        # What is made once is not counted.
        warm = [waiting(contender, form) for _ in range(1_000)]
        await settle(len(warm))
        gc.collect()
        before = resident()
        kept = [waiting(contender, form) for _ in range(count)]
        await settle(count)
        gc.collect()
        grown = resident() - before
        # The list has room to spare for as much as an eighth.
        expect(len(warm) + len(kept), 1_000 + count)
        return (grown - sys.getsizeof(kept)) / count

    return event_loop.run_until_complete(pending())


async def settle(count):
    """Lets all start, the runtime's threads included."""
    for _ in range(3):
        await asyncio.sleep(0.05 + 1e-6 * count)


def waiting(contender, form):
    awaitable = contender.pending()
    if form == "in a task":
        return asyncio.ensure_future(awaitable if asyncio.iscoroutine(awaitable) else wait(awaitable))
    if asyncio.iscoroutine(awaitable):
        # It waits from its first step on.
        awaitable.send(None)
    return awaitable


async def wait(awaitable):
    return await awaitable


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
