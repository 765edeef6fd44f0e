"""Processes that fork after they have used the bridge: each situation of the stress program, a few times."""

import processes


def pytest_generate_tests(metafunc):
    processes.generate(metafunc, "fork.py")


def test_fork(situation, event_loop):
    processes.be_in(situation, event_loop)
