"""Processes that run many event loops, and count what is left of them."""

import asyncio
import gc
import os
import threading
import time

from programs import main, situation

COUNT = 1000

# What an allocator may keep, in bytes. One leaked loop is more than 5 kB.
TOLERANCE = 2_000_000


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def memory():
    """The resident memory, in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled(measure, expected):
    """What is measured when the workers have let go of what ended last: they are not waited for."""
    deadline = time.monotonic() + 10
    while measure() > expected and time.monotonic() < deadline:
        time.sleep(0.001)
    return measure()


def repeat(function, count=COUNT):
    """Calls a function many times, and sees that nothing grows."""
    # What is made once is made now, and the allocator has its pools.
    for _ in range(count // 5):
        function()
    gc.collect()
    open_before, resident_before = descriptors(), memory()
    for _ in range(count):
        function()
    gc.collect()
    open_after, resident_after = settled(descriptors, open_before), memory()
    print(f"# {count} times: descriptors {open_before} -> {open_after}, "
          f"resident memory {resident_before / 1e6:.1f} -> {resident_after / 1e6:.1f} MB")
    assert open_after <= open_before, "descriptors are left open"
    assert resident_after <= resident_before + TOLERANCE, "memory is left allocated"


@situation
def runs(rust, loops):
    """`asyncio.run`, to the end of a Rust future."""

    async def main():
        await rust.after(0)

    repeat(lambda: loops.run(main()))


@situation
def closed(rust, loops):
    """Loops that are closed with futures outstanding."""

    async def main():
        for _ in range(10):
            rust.after(3600.0, object())

    repeat(lambda: loops.run(main()))


@situation
def cancelled(rust, loops):
    """Loops that are closed with tasks that await Rust."""

    async def wait():
        await rust.after(3600.0, object())

    async def main():
        tasks = [asyncio.ensure_future(wait()) for _ in range(10)]
        await asyncio.sleep(0)
        return len(tasks)

    repeat(lambda: loops.run(main()))


@situation
def awaiting_python(rust, loops):
    """Loops that are closed while Rust awaits Python."""

    async def wait():
        nonlocal waiting
        waiting += 1
        await asyncio.sleep(3600.0)

    async def main():
        nonlocal waiting
        waiting = 0
        for _ in range(10):
            rust.awaiting(wait())
        while waiting < 10:
            await asyncio.sleep(0)

    waiting = 0

    repeat(lambda: loops.run(main()))


@situation
def collected(rust, loops):
    """Loops that are collected unclosed, with futures outstanding."""

    async def main():
        for _ in range(10):
            rust.after(3600.0, object())

    def use():
        loops.new_event_loop().run_until_complete(main())
        gc.collect()

    repeat(use, COUNT // 5)


@situation
def reused(rust, loops):
    """One loop that is stopped and run again."""
    loop = loops.new_event_loop()

    async def main():
        await rust.after(0)

    repeat(lambda: loop.run_until_complete(main()))
    loop.close()


@situation
def threads(rust, loops):
    """A loop in each of several threads, all at once."""

    async def main():
        for _ in range(5):
            await asyncio.gather(*(rust.after(0) for _ in range(5)))

    def use():
        threads = [threading.Thread(target=lambda: loops.run(main())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    repeat(use, COUNT // 10)


if __name__ == "__main__":
    main()
