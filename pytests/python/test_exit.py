"""Processes that end while futures are under way: each situation of the stress program, a few times."""

import processes


def pytest_generate_tests(metafunc):
    processes.generate(metafunc, "exit.py")


def test_exit(situation, event_loop):
    processes.be_in(situation, event_loop)
