"""Runs the programs of `pytests/stress`, each of whose situations takes a process of its own."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

STRESS = pathlib.Path(__file__).parent.parent / "stress"

# Seconds that a process may take.
TIME_LIMIT = 40

# What happens once in a thousand runs is looked for by `cargo xtask stress`.
RUNS = 3


@dataclasses.dataclass
class Situation:
    script: str
    name: str
    status: int
    one_in: int

    def command(self, event_loop):
        """A fork of a process with threads is what is tried: there is no need to be warned of it."""
        options = ["-W", "ignore::DeprecationWarning"]
        return [sys.executable, *options, STRESS / self.script, self.name, "--event-loop", event_loop]


def situations(script):
    """All that a program has."""
    listed = subprocess.run([sys.executable, STRESS / script], check=True, capture_output=True, text=True, timeout=60)
    lines = [line.split() for line in listed.stdout.splitlines()]
    return [Situation(script, name, int(status), int(one_in)) for name, status, one_in in lines]


def generate(metafunc, script):
    """Every situation on every event loop that is asked for."""
    only = metafunc.config.getoption("--event-loop")
    metafunc.parametrize("event_loop", [only] if only else ["asyncio", "uvloop"])
    metafunc.parametrize("situation", situations(script), ids=lambda situation: situation.name)


def be_in(situation, event_loop):
    """Starts some processes at once, and sees that each ends as it should, in silence."""
    command = situation.command(event_loop)
    runs = 1 if situation.one_in > 1 else RUNS
    started = []
    try:
        for _ in range(runs):
            started.append(start(command))
        for process in started:
            status, printed = outcome(process, TIME_LIMIT)
            # pytest shows what is compared in test files only.
            assert (status, printed) == (situation.status, "end\n"), f"{status}, having printed:\n{printed}"
    finally:
        for process in started:
            # What it has forked is in its session, and is ended with it.
            kill_group(process)


def start(command):
    """Starts a process that leads a session."""
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **output)


def outcome(process, limit):
    """The exit status of a process that leads a session, and what it has printed; one that hangs says where."""
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        # Each process of the session has `faulthandler` show what its threads are at.
        os.killpg(process.pid, signal.SIGABRT)
        printed, _ = process.communicate(timeout=TIME_LIMIT)
        return "it hung", printed
    return process.returncode, printed


def kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
