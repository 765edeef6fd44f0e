"""No thread of a runtime waits for the interpreter on the library's behalf."""

import asyncio
import threading

import bridge
from support import in_task, outcome_of, spawned_ways


@spawned_ways
async def test_futures_end_while_another_thread_keeps_the_interpreter(way):
    count = 1000
    gate = bridge.Gate()
    futures = [asyncio.ensure_future(gate.wait(way, number)) for number in range(count)]
    await asyncio.sleep(0)
    gate.wait_for_starts(count)
    # From here to the last of them this thread has the interpreter, and nobody else gets it.
    gate.open_while_attached(count)
    assert not any(future.done() for future in futures)
    assert await asyncio.gather(*futures) == list(range(count))


@spawned_ways
async def test_errors_and_panics_end_while_another_thread_keeps_the_interpreter(way):
    gate = bridge.Gate()
    futures = [asyncio.ensure_future(gate.fail(way, ValueError(number))) for number in range(100)]
    futures += [asyncio.ensure_future(bridge.panic(way, "str", True)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.wait_for_starts(100)
    gate.open_while_attached(100)
    outcomes = await asyncio.gather(*map(outcome_of, futures))
    assert [message for _, _, message in outcomes[:100]] == [str(number) for number in range(100)]
    assert all(kind is bridge.RustPanic for _, kind, _ in outcomes[100:])


def test_a_drop_with_the_loop_gone_waits_for_nobody(new_loop, way):
    """What a Rust future holds of Python is let go by a thread that has the interpreter."""
    gate = bridge.Gate()
    loop = new_loop()

    async def start():
        awaitables = [gate.wait(way, object()) for _ in range(100)]
        if way != "future":
            for awaitable in awaitables:
                awaitable.send(None)
        gate.wait_for_starts(100)
        return awaitables

    loop.run_until_complete(start())
    loop.close()
    gate.wait_for_drops(100)


@spawned_ways
async def test_python_that_rust_awaits_ends_without_the_workers(way):
    """Only what the future itself asks of Python has it wait for the interpreter."""
    gates = [bridge.Gate() for _ in range(2)]

    async def python():
        await gates[0].wait(way)

    rust = [asyncio.ensure_future(in_task(bridge.call(way, python()))) for _ in range(100)]
    other = [asyncio.ensure_future(gates[1].wait(way)) for _ in range(100)]
    while gates[0].started < 100:
        await asyncio.sleep(0)
    gates[1].wait_for_starts(100)
    gates[0].open(100)
    gates[1].open_while_attached(100)
    await asyncio.gather(*rust, *other)


def test_a_thread_of_python_may_be_anywhere(new_loop, way):
    """Other threads of Python go on while futures end, and none of them is needed for it."""
    stop = threading.Event()
    turns = [0]

    def busy():
        while not stop.is_set():
            turns[0] += 1

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()

    async def main():
        return await asyncio.gather(*(bridge.value(way, number, True) for number in range(200)))

    try:
        assert new_loop().run_until_complete(main()) == list(range(200))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
