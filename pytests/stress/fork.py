"""Processes that fork after they have used the bridge."""

import asyncio
import atexit
import concurrent.futures
import ctypes
import gc
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings

from programs import keep, main, on_open_loop, raises, situation

FOR_EVER = 3600.0


def use(rust, loops):
    """Awaits Rust, on a loop of its own."""

    async def main():
        await asyncio.gather(*(rust.after(number * 0.0005) for number in range(10)))

    loops.run(main())


def starts_again(rust):
    """Whether the Rust runtime starts its threads again in a child: of those behind the bridge, only tokio does."""
    return rust.__name__ != "bridge" or os.environ.get("BRIDGE_RUNTIME", "tokio") == "tokio"


def again(rust, function):
    """Calls, in a child, what uses the bridge after the parent has used it: where that cannot be, it is an error."""
    if starts_again(rust):
        function()
    else:
        raises("fork", function)


def use_again(rust, loops):
    again(rust, lambda: use(rust, loops))


def use_before(rust, loops):
    """Sees that a child that is forked at any time from now on has a parent that has used the bridge.

    A runtime that starts again is left for the child, and others, to be the first.
    """
    if not starts_again(rust):
        use(rust, loops)


def fork(function):
    """Calls a function in a forked child, which then ends as a program does; gives the child's number."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except Exception:
            traceback.print_exc()
            sys.exit(1)
        sys.exit(0)
    return child


def join(child):
    """Waits for a child, which must end well."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"the child ended with status {status}"


@situation
def child(rust, loops):
    """The child uses the bridge after its parent has used it, and the parent goes on."""
    use(rust, loops)
    child = fork(lambda: use_again(rust, loops))
    use(rust, loops)
    join(child)
    use(rust, loops)


@situation
def child_alone(rust, loops):
    """Only the child uses the bridge."""
    join(fork(lambda: use(rust, loops)))
    use(rust, loops)


@situation(needs=["wait"])
def child_of_a_step(rust, loops):
    """A coroutine forks: no loop runs in the child, which may block. An exit by an exception would be the loop's."""

    def wait():
        # The frames of the parent's delivery stay on the child's stack.
        for _ in range(3):
            again(rust, lambda: rust.wait(0.001))
            use_again(rust, loops)

    async def main():
        # Also in the course of a delivery of Rust's, which must not be blocked in the parent.
        await rust.after(0.001)
        join(fork_in_thread(wait))
        await asyncio.sleep(0)
        join(fork_in_thread(wait))
        await rust.after(0.001)

    loops.run(main())


@situation
def idle_child(rust, loops):
    """The child ends as a program does, without using the bridge."""
    use(rust, loops)
    join(fork(lambda: None))
    use(rust, loops)


def child_of_an_exit_function(rust, loops):
    """An exit function forks when the bridge has been told of the end. The child uses it, and has an end of its own."""
    # Exit functions that are registered first are called last.
    atexit.register(fork_at_exit, rust, loops)
    use(rust, loops)


def child_of_the_first_use(rust, loops):
    """The exit function that forks is the first to use the bridge."""

    def farewell():
        use(rust, loops)
        fork_at_exit(rust, loops)

    atexit.register(farewell)


# Python 3.12 refuses to fork then.
if sys.version_info[:2] != (3, 12):
    situation(child_of_an_exit_function)
    situation(child_of_the_first_use)


def fork_at_exit(rust, loops):
    """Forks a child that leaves workers behind that attach."""

    def leave_attaching():
        loop = loops.new_event_loop()
        keep(loop)

        async def start():
            keep(*(rust.attaching() for _ in range(4)))
            await asyncio.sleep(0.01)

        loop.run_until_complete(start())

    child = os.fork()
    if child == 0:
        again(rust, leave_attaching)
    else:
        join(child)


@situation(needs=["wait"])
def child_with_files(rust, loops):
    """The child closes what it has inherited, as a daemon does, and its own files have the numbers then."""
    loop = loops.new_event_loop()

    async def start():
        await rust.after(0.001)

    def use_with_files():
        os.closerange(3, 256)
        files = [tempfile.TemporaryFile() for _ in range(30)]
        use_again(rust, loops)
        for file in files:
            file.write(b"kept")
            file.seek(0)
            assert file.read() == b"kept"
        # The parent's loop cannot be closed any more.
        os._exit(0)

    loop.run_until_complete(start())
    join(fork(use_with_files))
    loop.run_until_complete(start())
    # This thread still has the loop that it has last run.
    closing = threading.Thread(target=loop.close)
    closing.start()
    closing.join()
    join(fork(use_with_files))


@situation
def grandchild(rust, loops):
    def family():
        use_again(rust, loops)
        join(fork(lambda: use_again(rust, loops)))
        use_again(rust, loops)

    use(rust, loops)
    join(fork(family))
    use(rust, loops)


@situation
def many(rust, loops):
    """Children that live at the same time."""
    use(rust, loops)
    for child in [fork(lambda: use_again(rust, loops)) for _ in range(4)]:
        join(child)
    use(rust, loops)


@situation
def pending_in_parent(rust, loops):
    """What is pending in the parent ends there, though a child was forked and has ended."""
    loop = loops.new_event_loop()

    async def start():
        return [rust.after(0.05 + number * 0.001, number) for number in range(50)]

    async def finish():
        return await asyncio.gather(*futures)

    futures = loop.run_until_complete(start())
    join(fork(lambda: use_again(rust, loops)))
    assert loop.run_until_complete(finish()) == list(range(50))
    loop.close()


@situation
def awaited_by_child(rust, loops):
    """The child awaits what was pending in the parent: an error, but no hang."""
    loop = loops.new_event_loop()

    async def start():
        return rust.after(FOR_EVER, object())

    async def finish():
        await future

    def await_in_child():
        # The loop is the parent's. The child runs it all the same.
        raises("fork", lambda: loop.run_until_complete(finish()))
        use_again(rust, loops)

    future = loop.run_until_complete(start())
    join(fork(await_in_child))
    use(rust, loops)


@situation(needs=["ticks"])
def cancelled_by_child(rust, loops):
    """The child cancels what waits in the parent: a future, and a stream."""
    loop = loops.new_event_loop()

    async def start():
        waiting = [
            asyncio.ensure_future(rust.after(FOR_EVER)),
            asyncio.ensure_future(next_of(rust.ticks(FOR_EVER, None))),
        ]
        await asyncio.sleep(0.001)
        return waiting

    async def next_of(stream):
        return await stream.__anext__()

    async def cancel(tasks):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def cancel_in_child():
        # The loop is the parent's. The child runs it all the same.
        loop.run_until_complete(cancel(tasks))
        assert all(task.cancelled() for task in tasks), tasks
        use_again(rust, loops)

    tasks = loop.run_until_complete(start())
    join(fork(cancel_in_child))
    loop.run_until_complete(cancel(tasks))
    assert all(task.cancelled() for task in tasks), tasks
    loop.close()


@situation(needs=["channel"])
def channel_of_the_parent(rust, loops):
    """The child has the parent's channel in its memory, and may not use it: what is in there is the parent's."""
    sender, receiver = rust.channel(2)
    calls = {
        "send": lambda: sender.send("from the child"),
        "receive": receiver.receive,
        "anext": receiver.__anext__,
        "close": receiver.close,
        "made before": lambda: made,
    }

    async def awaited(call):
        return await call()

    def use_in_child():
        for name, call in calls.items():
            raises("fork", lambda call=call: loops.run(awaited(call)), name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            not_sent.clear()
        # In the child nobody was to await it.
        assert caught == []

    async def send():
        await sender.send("from the parent")

    async def receive():
        return await made

    made = receiver.receive()
    not_sent = [sender.send("never")]
    loops.run(send())
    join(fork(use_in_child))
    not_sent.pop().close()
    assert loops.run(receive()) == "from the parent"
    assert not receiver.closed


@situation(needs=["Gate"])
def woken_by_child(rust, loops):
    """The child wakes what waits on the parent's loop, and drops none of it."""
    loop = loops.new_event_loop()
    gate = rust.Gate()

    async def start():
        task = asyncio.ensure_future(gate.wait("local"))
        await asyncio.sleep(0)
        return task

    def wake_in_child():
        gate.open(1)
        use(rust, loops)
        assert gate.dropped == 0

    task = loop.run_until_complete(start())
    join(fork(wake_in_child))
    gate.open(1)
    loop.run_until_complete(task)
    assert gate.dropped == 1
    loop.close()


@situation
def inherited_loop_is_closed(rust, loops):
    """The child closes and collects the parent's loop; the parent is woken as before."""
    loop = loops.new_event_loop()

    async def main():
        await rust.after(0.001)

    def close():
        nonlocal loop
        loop.close()
        del loop
        gc.collect()
        use_again(rust, loops)

    loop.run_until_complete(main())
    if loops is asyncio:
        join(fork(close))
    else:
        # libuv takes the parent's descriptors out of the epoll that both share: with or without this library.
        join(fork(lambda: use_again(rust, loops)))
    for _ in range(3):
        loop.run_until_complete(main())
    loop.close()


@situation
def inherited_loop_is_collected(rust, loops):
    loop = loops.new_event_loop()

    async def main():
        await rust.after(0.001)

    loop.run_until_complete(main())
    child = os.fork()
    if child == 0:
        del loop
        gc.collect()
        use_again(rust, loops)
        sys.exit(0)
    join(child)
    for _ in range(3):
        loop.run_until_complete(main())
    loop.close()


@situation
def in_coroutine(rust, loops):
    """A parent whose loop runs: `multiprocessing` forks out of a coroutine."""
    context = multiprocessing.get_context("fork")

    async def main():
        await rust.after(0.001)
        pending = [rust.after(0.05) for _ in range(10)]
        process = context.Process(target=use_again, args=(rust, loops))
        process.start()
        await asyncio.gather(*pending)
        await asyncio.get_running_loop().run_in_executor(None, process.join)
        assert process.exitcode == 0, process.exitcode
        await rust.after(0.001)

    loops.run(main())


@situation
def in_thread(rust, loops):
    """A thread forks while the loop of another runs."""

    def family():
        join(fork_in_thread(lambda: use_again(rust, loops)))

    async def main():
        other = asyncio.get_running_loop().run_in_executor(None, family)
        while not other.done():
            await rust.after(0.0005)
        await other

    use_before(rust, loops)
    loops.run(main())


def fork_in_thread(function):
    """As `fork`, for a thread: there an exit of the interpreter would end the thread only."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


@situation
def busily(rust, loops):
    """Forks while workers post, and other threads take what they have posted."""
    stop = threading.Event()

    def loop():
        async def main():
            while not stop.is_set():
                await asyncio.gather(*(rust.after(0.0001, object()) for _ in range(20)))

        loops.run(main())

    use_before(rust, loops)
    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        join(fork_in_thread(lambda: use_again(rust, loops)))
    stop.set()
    for thread in threads:
        thread.join()


@situation
def attaching(rust, loops):
    """Forks while workers attach to Python."""
    loop = loops.new_event_loop()

    async def start():
        keep(*(rust.attaching() for _ in range(4)))
        await asyncio.sleep(0.005)

    loop.run_until_complete(start())
    for _ in range(3):
        join(fork(lambda: use_again(rust, loops)))
    use(rust, loops)
    loop.close()


@situation
def locking(rust, loops):
    """Forks while workers hold a lock in most of their polls, which the child wants as well."""
    loop = loops.new_event_loop()

    async def start():
        keep(*(rust.locking(sys.maxsize) for _ in range(2)))
        await asyncio.sleep(0.005)

    use_before(rust, loops)
    loop.run_until_complete(start())
    for _ in range(5):
        join(fork_beside_a_lock(locks_in_child(rust, loops)))
    use(rust, loops)
    loop.close()


@situation(needs=["wait"])
def locking_beside_a_step(rust, loops):
    """A coroutine forks that has just been resumed, while a worker holds the lock."""
    child = locks_in_child(rust, loops)

    async def main():
        keep(rust.locking(sys.maxsize))
        for _ in range(10):
            await rust.after(0.003)
            join(fork_beside_a_lock(child))

    use_before(rust, loops)
    loop = loops.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


@situation(needs=["wait"])
def locking_beside_two_forks(rust, loops):
    """Two threads fork at the same time, while a worker holds the lock."""
    child = locks_in_child(rust, loops)
    together = threading.Barrier(2)
    ended = 0

    async def start():
        keep(rust.locking(sys.maxsize))
        await asyncio.sleep(0.005)

    # No pool's: it has forks of its process wait for each other.
    def fork_together():
        nonlocal ended
        for _ in range(10):
            together.wait(30)
            join(fork_beside_a_lock(child))
        ended += 1

    use_before(rust, loops)
    loop = loops.new_event_loop()
    loop.run_until_complete(start())
    threads = [threading.Thread(target=fork_together) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == 2
    loop.close()


def fork_beside_a_lock(child):
    """A fork waits 50 ms for polls: on a machine that stalls the lock may then be locked for ever in the child."""
    begun = time.monotonic()
    return fork_in_thread(lambda: time.monotonic() - begun < 0.05 and child())


def locks_in_child(rust, loops):
    """What a child does that wants the lock."""

    async def lock():
        await rust.locking(1)

    def child():
        # The loop that runs is the parent's.
        asyncio._set_running_loop(None)
        again(rust, lambda: loops.run(lock()))

    return child


@situation(needs=["wait"])
def announced_to_a_user(rust, loops):
    """A function that is called before the fork, when the bridge has been told of it, awaits many futures."""

    async def await_many():
        for _ in range(60):
            await rust.after(0)

    os.register_at_fork(before=lambda: loops.run(await_many()))
    use(rust, loops)
    join(fork(lambda: use_again(rust, loops)))
    use(rust, loops)


def thread_states(rust, loops):
    """Forks while some thread, to attach, has the lock of the interpreter's list of thread states."""
    use(rust, loops)
    use_before(rust, loops)
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = ctypes.c_void_p
    api.PyThread_acquire_lock.argtypes = [ctypes.c_void_p, ctypes.c_int]
    api.PyThread_release_lock.argtypes = [ctypes.c_void_p]
    # There it stands right before the newest interpreter and the main one.
    known = list((ctypes.c_void_p * 8).in_dll(api, "_PyRuntime"))
    this = api.PyInterpreterState_Get()
    lock = known[next(index for index in range(6) if known[index + 1 : index + 3] == [this, this])]
    os.register_at_fork(
        before=lambda: api.PyThread_acquire_lock(lock, 1),
        after_in_parent=lambda: api.PyThread_release_lock(lock),
    )
    for _ in range(2):
        join(fork(lambda: use_again(rust, loops)))
    use(rust, loops)


# Newer versions make the lock anew, or fork with it; the control hangs.
if sys.version_info < (3, 12) and sys.platform == "linux":
    situation(thread_states, needs=["wait"])


def work(module, event_loop, number):
    """What a pool's process does."""
    import importlib

    rust, loops = importlib.import_module(module), importlib.import_module(event_loop)

    async def main():
        return await rust.after(0.001, number)

    return loops.run(main())


def pool(rust, loops, method):
    use(rust, loops)
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        numbers = [executor.submit(work, rust.__name__, loops.__name__, number) for number in range(8)]

        def gather():
            assert [number.result() for number in numbers] == list(range(8))

        # Those that other methods start have no parent that has used the bridge.
        again(rust, gather) if method == "fork" else gather()
    use(rust, loops)


@situation
def pool_by_fork(rust, loops):
    pool(rust, loops, "fork")


@situation
def pool_by_spawn(rust, loops):
    pool(rust, loops, "spawn")


@situation
def pool_by_fork_server(rust, loops):
    pool(rust, loops, "forkserver")


@situation(needs=("Runtime", "Gate"))
def given_runtime(rust, loops):
    """A runtime that the application has made and handed over is not there in the child: an error that says so."""
    runtime, gate = rust.Runtime(), rust.Gate()

    async def main():
        gate.open(1)
        await runtime.wait("coroutine", gate)

    def use_in_child():
        raises("fork", lambda: loops.run(main()))
        use(rust, loops)

    loops.run(main())
    # The child does not end as a program does: to drop the runtime is to wait for threads that are not there.
    join(fork_in_thread(use_in_child))
    loops.run(main())


@situation(needs=["forks"])
def in_a_poll(rust, loops):
    """A worker that polls a future forks: the child has what the runtime keeps for its threads, and no runtime."""

    def family():
        return fork_in_thread(lambda: use_again(rust, loops))

    async def main():
        join(await rust.forks(family))
        await rust.after(0.001)

    loops.run(main())


@situation(needs=["forks", "current_locals"])
def locals_in_a_poll(rust, loops):
    """The child that a poll forks has no task, but the event loop that it runs."""

    async def is_running():
        event_loop, _ = rust.current_locals()
        return event_loop is asyncio.get_running_loop()

    def look():
        assert loops.run(is_running())

    async def main():
        join(await rust.forks(lambda: fork_in_thread(look)))
        await rust.after(0.001)

    loops.run(main())


@situation(needs=["wait", "after_in_place"])
def in_place(rust, loops):
    """What is polled on the child's own thread: on a runtime that is left behind, an error, but no hang."""

    async def main(eager):
        await rust.after_in_place(0.001, eager)

    def use_in_place():
        again(rust, lambda: rust.wait(0.001))
        for eager in [False, True]:
            again(rust, lambda eager=eager: loops.run(main(eager)))

    rust.wait(0.001)
    join(fork(use_in_place))
    for eager in [False, True]:
        loops.run(main(eager))
    join(fork(use_in_place))


@situation
def preloaded(rust, loops):
    """A server that forks its workers before it has run a loop, each of which serves many."""

    def serve():
        for _ in range(5):
            use(rust, loops)

    on_open_loop(loops, asyncio.sleep(0))
    for child in [fork(serve) for _ in range(2)]:
        join(child)


if __name__ == "__main__":
    main()
