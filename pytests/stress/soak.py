"""Five million awaits of Rust futures, in every way there is, in memory that does not grow.

    python pytests/stress/soak.py [AWAITS]

It wants the extension module `bridge` of pytests/extension, built for release, on its path.
Each round has values, errors, cancellations and Python that Rust awaits; then the memory of the process is taken.
The first rounds fill what is kept for good, so that growth is counted from the second quarter on; it exits with 1 when
that is more than LIMIT.
"""

import asyncio
import gc
import sys
import time

import bridge

WAYS = "coroutine", "eager", "local", "future"
ROUNDS = 40
# Bytes of memory that allocators may take and give back.
LIMIT = 4 << 20


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


async def python():
    return None


async def round_of(way, awaits):
    """So many awaits; gives how many there were."""
    done = 0
    error = ValueError("raised")
    while done < awaits:
        for _ in range(80):
            await bridge.value(way, None, False)
        await asyncio.gather(*(bridge.value(way, None, True) for _ in range(80)))
        await asyncio.gather(*(bridge.call(way, python()) for _ in range(20)))
        await asyncio.gather(*(bridge.fail(way, error, True) for _ in range(10)), return_exceptions=True)
        gate = bridge.Gate()
        futures = [asyncio.ensure_future(gate.wait(way)) for _ in range(10)]
        await asyncio.sleep(0)
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
        error.__traceback__ = None
        done += 200
    return done


async def main(awaits):
    sizes, done, begun = [], 0, time.monotonic()
    for _ in range(ROUNDS):
        for way in WAYS:
            done += await round_of(way, awaits // ROUNDS // len(WAYS))
        gc.collect()
        sizes.append(resident())
    seconds = time.monotonic() - begun
    base = max(sizes[: ROUNDS // 4])
    growth = max(sizes[ROUNDS // 4 :]) - base
    print(f"{done} awaits in {seconds:.0f} s: {base / 2**20:.1f} MiB, then {growth / 2**10:+.0f} KiB")
    return growth <= LIMIT


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    sys.exit(0 if asyncio.run(main(count)) else 1)
