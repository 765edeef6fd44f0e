"""Python and Rust await each other, over loopback sockets, and every total is checked."""

import argparse
import asyncio
import faulthandler
import importlib
import platform
import sys
import time

import pyo3_await_demo as rust

CLIENTS = 1_000
LINES_PER_CLIENT = 5
CALLBACKS = 1_000
LINES_STREAMED = 10_000
TIME_LIMIT = 60  # seconds


async def many_clients():
    """asyncio serves; the clients are Rust coroutines on tokio, all connected at the same time."""
    clients = open_files_allow(CLIENTS)
    connected = answered = 0
    all_connected = asyncio.Event()

    async def shout(reader, writer):
        nonlocal connected, answered
        connected += 1
        if connected == clients:
            all_connected.set()
        await all_connected.wait()
        async for line in reader:
            writer.write(line.upper())
            answered += 1
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0, backlog=clients) as server:
        lines = [[f"client {c}, line {n}" for n in range(LINES_PER_CLIENT)] for c in range(clients)]
        checked = await asyncio.gather(*(rust.ask(port_of(server), of_client) for of_client in lines))

    expect("clients connected at the same time", connected, clients)
    expect("lines answered by Python", answered, clients * LINES_PER_CLIENT)
    expect("answers checked by Rust", sum(checked), clients * LINES_PER_CLIENT)
    return f"{clients:,} tokio clients at once, awaited from Python: {answered:,} lines sent, answered and checked"


async def callbacks():
    """A Rust coroutine that awaits an async Python function for every line it receives."""
    handled = right = 0

    async def reverse(line):
        nonlocal handled
        await asyncio.sleep(0)
        handled += 1
        return line[::-1]

    async def quiz(reader, writer):
        nonlocal right
        for number in range(CALLBACKS):
            line = f"line {number}"
            writer.write(f"{line}\n".encode())
            answer = await reader.readline()
            if not answer:  # The other side has hung up.
                break
            right += answer.decode() == f"{line[::-1]}\n"
        writer.close()

    async with await asyncio.start_server(quiz, "127.0.0.1", 0) as server:
        answered = await rust.answer(port_of(server), reverse)

    expect("lines handled by Python", handled, CALLBACKS)
    expect("lines answered by Rust", answered, CALLBACKS)
    expect("right answers", right, CALLBACKS)
    return f"{answered:,} lines received by Rust, each answered by an async Python handler"


async def streams():
    """A Rust stream in `async for`, and an asynchronous generator as a Rust stream."""
    expected = [f"line {number}" for number in range(LINES_STREAMED)]
    received = asyncio.get_running_loop().create_future()

    async def send_lines(reader, writer):
        for line in expected:
            writer.write(f"{line}\n".encode())
            await writer.drain()
        writer.close()

    async def receive_lines(reader, writer):
        received.set_result([line.decode().rstrip() async for line in reader])
        writer.close()

    async def generate_lines():
        for line in expected:
            yield line

    async with await asyncio.start_server(send_lines, "127.0.0.1", 0) as server:
        streamed = [line async for line in rust.receive(port_of(server))]
    async with await asyncio.start_server(receive_lines, "127.0.0.1", 0) as server:
        sent = await rust.send(port_of(server), generate_lines())
        arrived = await received

    expect("lines from a Rust stream are all there, in order", streamed == expected, True)
    expect("lines sent by Rust", sent, LINES_STREAMED)
    expect("lines from a Python generator are all there, in order", arrived == expected, True)
    return f"{len(streamed):,} lines streamed from Rust to Python, and {sent:,} from Python to Rust"


async def cut_short():
    """A Rust future that takes too long is dropped when Python gives up on it."""
    expect("futures dropped before", rust.sleeps_dropped(), 0)
    timed_out = False
    try:
        await with_timeout(0.1, rust.sleep(3600))
    except asyncio.TimeoutError:
        timed_out = True

    expect("slow call cut short", timed_out, True)
    # No waiting, no polling: once the exception is here, the future is gone.
    expect("futures dropped after", rust.sleeps_dropped(), 1)
    return "1 slow Rust call cut short by a timeout of 0.1 s: its future was dropped"


async def with_timeout(seconds, awaitable):
    if sys.version_info < (3, 11):
        return await asyncio.wait_for(awaitable, seconds)
    async with asyncio.timeout(seconds):
        return await awaitable


def port_of(server):
    return server.sockets[0].getsockname()[1]


def expect(what, found, expected):
    """Like assert, but `python -O` does not remove it."""
    if found != expected:
        raise AssertionError(f"{what}: {found}, expected {expected}")


def open_files_allow(clients):
    """How many of these clients the limit on open files allows, once it is raised as far as need be."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return clients

    spare = 100
    needed = 2 * clients + spare  # Both ends of each connection are in this process.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return clients
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = min(clients, max(1, (soft - spare) // 2))
    if allowed < clients:
        print(f"  {allowed:,} clients instead of {clients:,}: only {hard:,} files may be open (see `ulimit -Hn`)")
    return allowed


async def main(event_loop):
    module = type(asyncio.get_running_loop()).__module__
    expect("event loop", module.partition(".")[0], event_loop)
    print(f"Python program: {platform.python_implementation()} {platform.python_version()}, {event_loop}")
    for part in many_clients, callbacks, streams, cut_short:
        started = time.perf_counter()
        summary = await part()
        print(f"  {time.perf_counter() - started:5.2f} s  {summary}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--event-loop", choices=["asyncio", "uvloop"], default="asyncio")
    return parser.parse_args()


if __name__ == "__main__":
    event_loop = parse_arguments().event_loop
    # Nothing here can hang: when time is up, this shows where every thread stands and exits with 1.
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
    # asyncio and uvloop both have `run`.
    importlib.import_module(event_loop).run(main(event_loop))
    faulthandler.cancel_dump_traceback_later()
