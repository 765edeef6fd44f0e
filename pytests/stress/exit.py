"""Processes that end while futures are under way."""

import asyncio
import atexit
import sys
import threading
import time

from programs import keep, main, on_open_loop, quietly, raises, situation

# Longer than any process is meant to last.
FOR_EVER = 3600.0


async def pending(rust, count=20):
    keep(*(rust.after(FOR_EVER, object()) for _ in range(count)))


async def completing(rust, count=400):
    """Futures that end one by one, from now until well after the process has begun to end."""
    keep(*(rust.after(number * 0.0001, object()) for number in range(count)))
    await asyncio.sleep(0.01)


@situation
def imported(rust, loops):
    """An extension module that is imported and never used."""


@situation
def awaited(rust, loops):
    """One future, awaited to its end."""

    async def main():
        await rust.after(0.001)

    loops.run(main())


@situation
def pending_when_closed(rust, loops):
    loops.run(pending(rust))


@situation
def pending_on_an_open_loop(rust, loops):
    on_open_loop(loops, pending(rust))


@situation
def completing_when_closed(rust, loops):
    loops.run(completing(rust))


@situation
def completing_on_an_open_loop(rust, loops):
    on_open_loop(loops, completing(rust))


@situation
def cancelled(rust, loops):
    """Futures that are dropped because their tasks are cancelled as the loop ends."""

    async def wait():
        await rust.after(FOR_EVER, object())

    async def main():
        keep(*(asyncio.ensure_future(wait()) for _ in range(50)))
        await asyncio.sleep(0)

    loops.run(main())


@situation
def tasks_on_an_open_loop(rust, loops):
    """Tasks that the interpreter destroys while they await Rust."""

    async def wait():
        await rust.after(0.02, object())
        await rust.after(FOR_EVER, object())

    async def main():
        keep(*(quietly(asyncio.ensure_future(wait())) for _ in range(50)))
        await asyncio.sleep(0.02)

    on_open_loop(loops, main())


@situation
def garbage(rust, loops):
    """Loops, tasks and futures in cycles, which the interpreter's last collection finds."""

    async def wait(cycle):
        cycle.append(rust.after(FOR_EVER, cycle))
        await cycle[-1]

    async def main():
        for _ in range(20):
            cycle = [asyncio.get_running_loop()]
            cycle.append(quietly(asyncio.ensure_future(wait(cycle))))
        await asyncio.sleep(0)

    loops.new_event_loop().run_until_complete(main())


@situation
def busy(rust, loops):
    """Workers in polls that end soon after the process wants to."""

    async def main():
        keep(*(rust.busy(0.05) for _ in range(8)))
        await asyncio.sleep(0.01)

    on_open_loop(loops, main())


@situation(one_in=50)
def stuck(rust, loops):
    """Workers in polls that do not end: the process ends all the same, after a time."""

    async def main():
        keep(*(rust.busy(FOR_EVER) for _ in range(8)))
        await asyncio.sleep(0.01)

    on_open_loop(loops, main())


@situation
def attaching(rust, loops):
    """Futures that attach to Python in each poll."""

    async def main():
        keep(*(rust.attaching() for _ in range(4)))
        await asyncio.sleep(0.005)

    on_open_loop(loops, main())


@situation
def attaching_when_closed(rust, loops):
    async def main():
        keep(*(rust.attaching_busily(0.03) for _ in range(4)))
        await asyncio.sleep(0.005)

    loops.run(main())


@situation
def awaiting_python(rust, loops):
    """Rust awaits Python, which is not going to end."""

    async def main():
        keep(*(rust.awaiting(quietly(asyncio.ensure_future(asyncio.sleep(FOR_EVER)))) for _ in range(20)))
        await asyncio.sleep(0.005)

    on_open_loop(loops, main())


@situation
def awaiting_python_when_closed(rust, loops):
    begun = []

    async def wait():
        begun.append(True)
        await asyncio.sleep(FOR_EVER)

    async def main():
        keep(*(rust.awaiting(wait()) for _ in range(20)))
        # Python warns of a coroutine that nobody has begun to await.
        while len(begun) < 20:
            await asyncio.sleep(0.001)

    loops.run(main())


async def use_without_end(rust):
    """Resumes tasks again and again, each of which lets go of the interpreter and takes it back."""

    async def use():
        while True:
            await rust.after(0.0001, object())
            time.sleep(0)

    await asyncio.gather(*(use() for _ in range(10)))


@situation
def daemon_thread(rust, loops):
    """The loop of a daemon thread is delivering when the interpreter ends that thread."""

    def loop():
        started.set()
        loops.run(use_without_end(rust))

    for _ in range(2):
        started = threading.Event()
        threading.Thread(target=loop, daemon=True).start()
        started.wait()
    time.sleep(0.02)


@situation
def first_use_at_exit(rust, loops):
    """A daemon thread that comes to the bridge, first of all threads, when exit functions are being called."""
    begin = threading.Event()

    def loop():
        begin.wait()
        loops.run(use_without_end(rust))

    def let_it_begin():
        begin.set()
        time.sleep(0.02)

    threading.Thread(target=loop, daemon=True).start()
    atexit.register(let_it_begin)


@situation(needs=("wait",))
def blocked_threads(rust, loops):
    """Daemon threads that wait for Rust when the interpreter ends, and some that are done about then."""
    started = threading.Semaphore(0)

    def wait(seconds):
        started.release()
        rust.wait(seconds)

    times = [FOR_EVER] * 4 + [number * 0.001 for number in range(40)]
    for seconds in times:
        threading.Thread(target=wait, args=(seconds,), daemon=True).start()
    for _ in times:
        started.acquire()


@situation(needs=("wait",))
def blocked_again_and_again(rust, loops):
    """A daemon thread that waits for Rust, for a short time, without end."""

    def wait():
        while True:
            rust.wait(0.0001)

    for _ in range(4):
        threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.01)


async def take(rust, seconds, count):
    """Takes some items of streams without end, and leaves these open."""
    streams = [rust.ticks(seconds, object()) for _ in range(10)]
    keep(*streams)
    for stream in streams:
        async for _ in stream:
            count -= 1
            if count <= 0:
                break


@situation(needs=("ticks",))
def streams_when_closed(rust, loops):
    loops.run(take(rust, 0.0005, 20))


@situation(needs=("ticks",))
def streams_on_an_open_loop(rust, loops):
    on_open_loop(loops, take(rust, 0.0005, 20))


@situation(needs=("ticks",))
def waiting_for_streams(rust, loops):
    """Tasks in `async for`."""

    async def main():
        for _ in range(10):
            keep(quietly(asyncio.ensure_future(take(rust, 0.0005, FOR_EVER))))
        await asyncio.sleep(0.01)

    on_open_loop(loops, main())


@situation
def threads(rust, loops):
    """Loops of ordinary threads, which the interpreter waits for."""

    def loop():
        loops.run(completing(rust, 50))

    for _ in range(4):
        threading.Thread(target=loop).start()


@situation(status=3)
def system_exit(rust, loops):
    """`sys.exit` in a task."""

    async def main():
        await pending(rust)
        await rust.after(0.001)
        sys.exit(3)

    loops.run(main())


@situation(status=1)
def uncaught(rust, loops):
    """An exception that nobody catches, whose traceback holds on to everything."""
    sys.excepthook = lambda *arguments: None

    async def main():
        futures = [rust.after(number * 0.0005, object()) for number in range(50)]
        await asyncio.sleep(0.01)
        raise ValueError(futures)

    loops.run(main())


@situation
def handler(rust, loops):
    """A function that `atexit` calls uses the bridge, which has not stopped yet: it stops where it was first used."""

    async def main():
        await rust.after(0.001)

    on_open_loop(loops, completing(rust, 50))
    atexit.register(lambda: loops.run(main()))


@situation
def first_use_in_a_handler(rust, loops):
    """A function that `atexit` calls is the first of all to use the bridge, and leaves workers that attach."""

    async def main():
        keep(*(rust.attaching() for _ in range(4)))
        await asyncio.sleep(0.005)

    atexit.register(lambda: on_open_loop(loops, main()))


_late = []


@situation(before_import=lambda: atexit.register(lambda: _late.pop()()))
def late_handler(rust, loops):
    """A function that `atexit` calls uses the bridge, which has stopped: an error, but no hang."""

    async def main():
        await rust.after(0.001)

    def use():
        try:
            loops.run(main())
        except RuntimeError:
            pass

    _late.append(use)
    on_open_loop(loops, completing(rust, 50))


@situation(needs=["channel"], before_import=lambda: atexit.register(lambda: _late.pop()()))
def late_receiver(rust, loops):
    """A function that `atexit` calls receives from a channel, with the bridge stopped: what is there, then an error."""
    sender, receiver = rust.channel(1)

    async def receive():
        assert await receiver.receive() == "sent before"
        await receiver.receive()

    _late.append(lambda: raises("ending", lambda: loops.run(receive()), "what nobody has sent"))
    keep(sender)
    on_open_loop(loops, sender.send("sent before"))
    on_open_loop(loops, completing(rust, 50))


@situation(before_import=lambda: atexit.register(lambda: _late.pop()()))
def late_cancel(rust, loops):
    """A function that `atexit` calls cancels what has not ended, with the bridge stopped: `asyncio.Runner.close`."""

    async def wait():
        await rust.after(FOR_EVER, object())

    async def start():
        return [asyncio.ensure_future(wait()) for _ in range(20)]

    async def cancel():
        for task in tasks:
            task.cancel()
        done, _ = await asyncio.wait(tasks)
        assert all(task.cancelled() for task in done)

    loop = loops.new_event_loop()
    tasks = loop.run_until_complete(start())
    # They wait by now.
    loop.run_until_complete(asyncio.sleep(0))
    _late.append(lambda: loop.run_until_complete(cancel()))


@situation(needs=["attach"])
def attaching_in_a_daemon_thread(rust, loops):
    """A coroutine of a daemon thread's loop calls Rust, which attaches, when the interpreter ends."""

    async def main():
        await rust.after(0.001)
        while True:
            rust.attach()
            started.set()
            await asyncio.sleep(0)

    started = threading.Event()
    threading.Thread(target=lambda: loops.run(main()), daemon=True).start()
    started.wait()


if __name__ == "__main__":
    main()
