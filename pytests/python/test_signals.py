"""Ctrl-C while a Rust future runs."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to the process alone")

PROGRAM = """
import asyncio, os, signal, sys, threading
import bridge

_, runner, way, target, kind = sys.argv
if kind == "uvloop":
    import uvloop
    new_event_loop, run = uvloop.new_event_loop, uvloop.run
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
else:
    new_event_loop, run = asyncio.new_event_loop, asyncio.run

gate = bridge.Gate()

def tick(loop):
    # No task, for which an exception that comes here would be its end.
    loop.call_later(0.05, tick, loop)

async def wait():
    if runner == "asyncio.run":
        # A signal that comes just before Python waits for events is handled with the next event.
        tick(asyncio.get_running_loop())
    await gate.wait(way)

def interrupt():
    gate.wait_for_starts(1)
    if target == "process":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        # The main thread does not see it, unless it is woken.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=interrupt).start()
if runner.startswith("run_"):
    loop = new_event_loop()
try:
    if runner == "asyncio.run":
        run(wait())
    elif runner == "run_forever":
        waiting = loop.create_task(wait())
        bridge.run_forever(loop)
    elif runner == "run":
        bridge.run(wait)
    else:
        bridge.run_until_complete(loop, wait)
except KeyboardInterrupt:
    print("interrupted")
if runner.startswith("run_"):
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
print("dropped", gate.dropped, "wakes", signal.set_wakeup_fd(-1))
"""


def run(*arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.splitlines()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("way", ["coroutine", "eager", "future"])
def test_in_a_loop_that_python_runs(way, kind):
    assert run("asyncio.run", way, "process", kind) == ["interrupted", "dropped 1 wakes -1"]


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("target", ["process", "thread"])
@pytest.mark.parametrize("runner", ["run", "run_until_complete", "run_forever"])
def test_in_a_loop_that_rust_runs(runner, target, kind):
    """Also when the system gives the signal to another thread than the main one."""
    assert run(runner, "coroutine", target, kind) == ["interrupted", "dropped 1 wakes -1"]
