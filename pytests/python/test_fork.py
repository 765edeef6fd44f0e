"""Processes that fork after they have used the bridge: each situation of the stress program, a few times."""

import processes
import pytest


def pytest_generate_tests(metafunc):
    if "event_loop" in metafunc.fixturenames:
        processes.generate(metafunc, "fork.py")


def test_fork(situation, event_loop):
    processes.be_in(situation, event_loop)


@pytest.mark.parametrize("runtime", ["async-std", "smol"])
@pytest.mark.parametrize("name", ["child", "child_alone", "child_of_a_step", "grandchild", "pool_by_fork"])
def test_a_runtime_that_does_not_start_again(name, runtime, monkeypatch):
    monkeypatch.setenv("BRIDGE_RUNTIME", runtime)
    processes.be_in(processes.Situation("fork.py", name, status=0, one_in=1), "asyncio")
