"""What the programs of `cargo xtask stress` share.

A program is one of several situations, a function of the module under test and of the module that makes event loops.
It is to end in silence: all that is printed is `end`, by the last function that `atexit` calls, and before that lines
with figures, which begin with `#`.
"""

import argparse
import atexit
import importlib
import os
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
    arguments = parser.parse_args()
    if arguments.situation is None:
        for name, each in situations(arguments.module).items():
            print(name, each.status, each.one_in)
        return
    chosen = _situations[arguments.situation]
    loops = importlib.import_module(arguments.event_loop)
    # The first that is registered is called last. A forked child has nothing to say.
    process = os.getpid()
    atexit.register(lambda: os.getpid() == process and print("end", flush=True))
    if chosen.before_import is not None:
        chosen.before_import()
    keep(Lingering())
    chosen.function(importlib.import_module(arguments.module), loops)


def keep(*objects):
    """Holds objects until the interpreter has ended."""
    _kept.extend(objects)


def on_open_loop(loops, coroutine):
    """Runs a coroutine on a loop that is never closed."""
    loop = loops.new_event_loop()
    keep(loop)
    loop.run_until_complete(coroutine)
    return loop


def quietly(task):
    """A task that may be destroyed while it is pending."""
    task._log_destroy_pending = False
    return task
