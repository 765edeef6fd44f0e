"""Every asynchronous test runs on each kind of event loop, and has to leave it clean."""

import asyncio
import gc
import inspect
import weakref

import pytest
import uvloop


class HelperLoop(asyncio.SelectorEventLoop):
    """A loop that cannot watch descriptors, as Windows' proactor loop: the helper thread wakes it."""

    add_reader = asyncio.AbstractEventLoop.add_reader


# Seconds that a test's own coroutine may take. uvloop does not see the signal of pytest-timeout while it is idle.
TIME_LIMIT = 45

LOOP_CLASSES = {"asyncio": asyncio.SelectorEventLoop, "helper": HelperLoop, "uvloop": uvloop.Loop}


def pytest_addoption(parser):
    parser.addoption("--event-loop", choices=["asyncio", "uvloop"], help="run on this event loop only")


def pytest_pycollect_makeitem(collector, name, obj):
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj):
        pytest.mark.usefixtures("run")(obj)


def pytest_collection_finish():
    # Each test collects its garbage: what belongs to pytest need not be looked through each time.
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc):
    if "loop_class" in metafunc.fixturenames:
        only = metafunc.config.getoption("--event-loop")
        kinds = {"asyncio": ["asyncio", "helper"], "uvloop": ["uvloop"], None: LOOP_CLASSES}[only]
        metafunc.parametrize("loop_class", [pytest.param(LOOP_CLASSES[kind], id=kind) for kind in kinds])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    pyfuncitem.funcargs["run"](pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(params=["coroutine", "eager", "local", "future"])
def way(request):
    """How a Rust future comes to Python."""
    return request.param


class Reports(list):
    """What event loops were told of exceptions that nobody else will see."""

    def take(self):
        """All that there is; garbage that has something to report is collected first."""
        gc.collect()
        taken = self[:]
        self.clear()
        return taken


@pytest.fixture
def reports():
    """The reports of all loops that `new_loop` makes. Those that a test does not take fail it."""
    reports = Reports()
    yield reports
    assert reports.take() == []


@pytest.fixture
def new_loop(loop_class, reports):
    """Makes event loops, of this test's kind or a class derived from it, and closes those that are open at the end."""
    # Weakly, so that a new loop may get the address of an old one.
    loops = weakref.WeakSet()

    def new_loop(loop_class=loop_class):
        loop = loop_class()
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        loops.add(loop)
        return loop

    yield new_loop
    for loop in list(loops):
        loop.close()


@pytest.fixture
def run(new_loop):
    """Runs a coroutine on a new event loop, and ends the loop as `asyncio.run` does."""

    def run(coroutine, loop=None):
        loop = loop or new_loop()
        task = loop.create_task(coroutine)
        loop.call_later(TIME_LIMIT, task.cancel, "the test hangs")
        try:
            return loop.run_until_complete(task)
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True) if tasks else asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


@pytest.fixture
def asyncio_run(monkeypatch, new_loop):
    """`asyncio.run`, on this test's kind of loop."""
    # Newer versions have a parameter for it; this works with all.
    monkeypatch.setattr(asyncio.events, "new_event_loop", new_loop)
    return asyncio.run
