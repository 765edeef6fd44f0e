"""What the programs of `cargo xtask stress` share.

A program is one of several situations, a function of the module under test and of the module that makes event loops.
It is to end in silence: all that is printed is `end`, by the last function that `atexit` calls, and before that lines
with figures, which begin with `#`.
"""

import argparse
import atexit
import faulthandler
import importlib
import json
import os
import select
import signal
import sys
import time

_situations = {}

# What lives until the interpreter has ended.
_kept = []


class Situation:
    def __init__(self, function, status, one_in, needs, before_import):
        self.function, self.status, self.one_in = function, status, one_in
        self.needs, self.before_import = needs, before_import


class Lingering:
    """Makes the interpreter take its time to end, as that of a large program does: threads meet it while it ends."""

    # The module's own names may be gone by then.
    def __del__(self, now=time.monotonic):
        until = now() + 0.02
        while now() < until:
            pass


def situation(function=None, *, status=0, one_in=1, needs=(), before_import=None):
    """Makes a situation of a function.

    `status` is the exit status that it should have.
    `one_in` says that it takes long: one process of so many is enough.
    `needs` are functions that not every module has, and `before_import` is called before the module is imported.
    """

    def mark(function):
        _situations[function.__name__] = Situation(function, status, one_in, needs, before_import)
        return function

    return mark if function is None else mark(function)


def situations(module):
    """Those that a module has the functions for, by their names."""
    module = importlib.import_module(module)
    known = _situations.items()
    return {name: each for name, each in known if all(hasattr(module, function) for function in each.needs)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("situation", nargs="?", help="what to do; without it, all that can be done is listed")
    parser.add_argument("--module", default="bridge", help="the extension module")
    parser.add_argument("--event-loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--forks", type=int, help="do it in so many forked processes, and report how each has ended")
    parser.add_argument("--limit", type=float, default=60, help="how many seconds each of those may take")
    arguments = parser.parse_args()
    if arguments.situation is None:
        for name, each in situations(arguments.module).items():
            print(name, each.status, each.one_in)
        return
    chosen = _situations[arguments.situation]
    # Whoever finds that it hangs sends SIGABRT, and is shown where.
    faulthandler.enable()
    loops = importlib.import_module(arguments.event_loop)
    if arguments.forks is not None and not is_forked(arguments.forks, arguments.limit):
        return
    # The first that is registered is called last. A forked child has nothing to say.
    process = os.getpid()
    atexit.register(lambda: os.getpid() == process and print("end", flush=True))
    if chosen.before_import is not None:
        chosen.before_import()
    keep(Lingering())
    chosen.function(importlib.import_module(arguments.module), loops)


def is_forked(count, limit):
    """Forks processes, one after the other, each of which returns true here and goes on as if it had been started.

    That leaves out most of what a start takes: imports, which are made by then. Of the module under test nothing is.
    For each process a line of JSON is printed, with its exit status, a signal as a negative one, none if it hung; and
    with what it has printed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for _ in range(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setsid()
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.close(read)
            os.close(write)
            return True
        os.close(write)
        try:
            status, output = follow(child, read, limit)
        finally:
            end_session(child)
            os.close(read)
        print(json.dumps({"status": status, "output": output}), flush=True)
    return False


def follow(child, read, limit):
    """Waits for a process to end, and gives its exit status and what it has printed."""
    deadline = time.monotonic() + limit
    output = b""
    ended = os.pidfd_open(child)
    try:
        waiting = [read, ended]
        while ended in waiting:
            ready, _, _ = select.select(waiting, [], [], max(deadline - time.monotonic(), 0))
            if read in ready:
                printed = os.read(read, 65536)
                output += printed
                # Nobody who could print is left, though the process itself may take its time.
                if not printed:
                    waiting.remove(read)
            elif ended in ready:
                waiting.remove(ended)
            elif not ready:
                break
    finally:
        os.close(ended)
    hangs = ended in waiting
    if hangs:
        os.killpg(child, signal.SIGABRT)
        output += rest(read)
        # One that is stopped does not end by the other signal.
        end_session(child)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if hangs else status, output.decode(errors="replace")


def rest(read):
    """What is left to be read, within ten seconds: somebody may hold the other end."""
    output = b""
    while select.select([read], [], [], 10)[0] and (printed := os.read(read, 65536)):
        output += printed
    return output


def end_session(child):
    """Ends what a process has left behind."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass


def keep(*objects):
    """Holds objects until the interpreter has ended."""
    _kept.extend(objects)


def on_open_loop(loops, coroutine):
    """Runs a coroutine on a loop that is never closed."""
    loop = loops.new_event_loop()
    keep(loop)
    loop.run_until_complete(coroutine)
    return loop


def raises(word, function, what="it"):
    """Calls a function, which has to raise a `RuntimeError` that has this word in it."""
    try:
        function()
    except RuntimeError as error:
        assert word in str(error), (what, error)
    else:
        raise AssertionError(f"{what} has not raised")


def quietly(task):
    """A task that may be destroyed while it is pending."""
    task._log_destroy_pending = False
    return task
