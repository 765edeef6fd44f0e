"""Processes that end while futures are under way: each situation of the stress program, a few times."""

import json
import os
import subprocess
import sys

import processes
import pytest


def pytest_generate_tests(metafunc):
    if "situation" in metafunc.fixturenames:
        processes.generate(metafunc, "exit.py")


def test_exit(situation, event_loop):
    processes.be_in(situation, event_loop)


PROGRAM = """
import os, signal, time
from programs import main, situation

@situation
def ends(rust, loops):
    print("printed", rust.__name__)

@situation
def crashes(rust, loops):
    os.kill(os.getpid(), signal.SIGSEGV)

@situation
def hangs(rust, loops):
    print("printed", flush=True)
    time.sleep(3600)

@situation
def leaves_a_child(rust, loops):
    # It holds on to the pipe that its parent prints to.
    if os.fork() == 0:
        time.sleep(3600)

main()
"""


@pytest.mark.parametrize(
    "kind, status, output",
    [
        ("ends", 0, "printed json\nend\n"),
        ("crashes", -11, ""),
        ("hangs", None, "printed\n"),
        ("leaves_a_child", 0, "end\n"),
    ],
)
def test_the_stress_programs_report_how_forked_processes_end(tmp_path, kind, status, output):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    # Any module will do.
    limit = "5" if kind == "hangs" else "40"
    command = [sys.executable, script, kind, "--module", "json", "--forks", "2", "--limit", limit]
    environment = os.environ | {"PYTHONPATH": str(processes.STRESS)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    reports = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [report["status"] for report in reports] == [status, status]
    for report in reports:
        printed, fatal, shown = report["output"].partition("Fatal Python error")
        assert printed == output
        assert bool(fatal) == (f" in {kind}\n" in shown) == (status != 0)
    assert finished.stderr == ""
