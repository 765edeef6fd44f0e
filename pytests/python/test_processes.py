"""The helper that the tests of processes use tells of one that hangs."""

import sys

import processes

HANGS = """
import faulthandler, os, threading

def waits_in_the_child():
    # It alone: what two processes print at the same time is mixed up.
    faulthandler.enable()
    print("waits", flush=True)
    threading.Event().wait()

if os.fork() == 0:
    waits_in_the_child()
os.wait()
"""


def test_a_process_that_hangs_shows_where():
    process = processes.start([sys.executable, "-c", HANGS])
    try:
        assert process.stdout.readline() == "waits\n"
        status, printed = processes.outcome(process, 0.1)
    finally:
        processes.kill_group(process)
    assert status == "it hung"
    assert "in waits_in_the_child" in printed
