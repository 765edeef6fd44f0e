"""`block_on`: what a synchronous caller sees."""

import asyncio
import signal
import subprocess
import sys
import threading

import bridge
import pytest


def run(program, *arguments):
    """Runs a program of its own, and gives what it printed."""
    command = [sys.executable, "-X", "dev", "-c", program, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_waits_without_the_interpreter():
    gate = bridge.Gate()
    thread = threading.Thread(target=gate.block_on)
    thread.start()
    gate.wait_for_starts(1)
    assert gate.dropped == 0
    gate.open(1)
    thread.join(20)
    assert (thread.is_alive(), gate.dropped) == (False, 1)


async def test_raises_where_a_loop_runs():
    gate = bridge.Gate()
    with pytest.raises(RuntimeError, match="in a running event loop.*into_coroutine.*to_thread"):
        gate.block_on()
    # The future is not even polled.
    assert (gate.started, gate.dropped) == (0, 1)
    gate.open(1)
    await asyncio.to_thread(gate.block_on)


INTERRUPTED = """
import os, signal, sys, threading, bridge

gate = bridge.Gate()

waiting = 2 if sys.argv[1] == "thread" else 1

def interrupt():
    gate.wait_for_starts(waiting)
    os.kill(os.getpid(), signal.SIGINT)

if sys.argv[1] == "thread":
    # Its wait goes on.
    other = threading.Thread(target=gate.block_on)
    other.start()
    gate.wait_for_starts(1)
threading.Thread(target=interrupt).start()
try:
    gate.block_on()
except KeyboardInterrupt:
    print("interrupted", gate.dropped)
if sys.argv[1] == "thread":
    gate.open(1)
    other.join(20)
    print("joined", gate.dropped)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to the process alone")
@pytest.mark.parametrize("situation, printed", [("alone", "interrupted 1\n"), ("thread", "interrupted 1\njoined 2\n")])
def test_is_interrupted_on_the_main_thread(situation, printed):
    assert run(INTERRUPTED, situation) == printed


HANDLED = """
import os, signal, threading, bridge

gate = bridge.Gate()

def handler(number, frame):
    print("handled", gate.dropped)
    gate.open(1)

signal.signal(signal.SIGUSR1, handler)

def send():
    gate.wait_for_starts(1)
    os.kill(os.getpid(), signal.SIGUSR1)

threading.Thread(target=send).start()
gate.block_on()
print("ended", gate.dropped)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
def test_a_signal_handler_that_does_not_raise_ends_nothing():
    assert run(HANDLED) == "handled 0\nended 1\n"


AT_EXIT = """
import atexit, threading, bridge

gate = bridge.Gate()

def early():
    try:
        gate.block_on()
    except RuntimeError as error:
        print("early:", error)

def late():
    gate.open(1)
    gate.block_on()
    print("late")

atexit.register(early)
other = bridge.Gate()
threading.Thread(target=other.block_on, daemon=True).start()
other.wait_for_starts(1)
atexit.register(late)
"""


def test_the_end_of_the_interpreter():
    late, early = run(AT_EXIT).splitlines()
    assert late == "late"
    assert early.startswith("early: the interpreter is ending")
