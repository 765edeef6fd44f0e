"""The Python side of the test harness: which test a task belongs to, and what a test has left behind."""

import asyncio
import contextvars
import sys
import threading
import traceback
import weakref

# The test that this context belongs to.
_test = contextvars.ContextVar("pyo3_await_testing_test")

# The test of each task. Python 3.12 and newer need no such table: there a task tells its context.
_tests = None if hasattr(asyncio.Task, "get_context") else weakref.WeakKeyDictionary()

# A task that was cancelled needs a few turns of the loop to end, and so does one that waits for it.
_TURNS = 20


def watch(loop):
    """Have each task that the loop makes from now on noted for the test that asks for it."""
    if _tests is None:
        return
    inner = loop.get_task_factory()

    def factory(loop, coro, **kwargs):
        task = asyncio.Task(coro, loop=loop, **kwargs) if inner is None else inner(loop, coro, **kwargs)
        test = _test.get(None)
        if test is not None:
            _tests[task] = test
        return task

    loop.set_task_factory(factory)


def new_context(context):
    """A copy of a context for one test, and the object that stands for the test."""
    test = object()
    context = context.copy()
    context.run(_test.set, test)
    return context, test


class CleanUp:
    """Awaited, it cancels the tasks of a test that have not ended, and tells what they were.

    It is no coroutine, so that it may as well not be awaited.
    """

    def __init__(self, test, tell):
        self._test = test
        self._tell = tell

    def __await__(self):
        return self._clean_up().__await__()

    async def _clean_up(self):
        left = []
        for _ in range(_TURNS):
            left = [task for task in asyncio.all_tasks() if _test_of(task) is self._test]
            if not left:
                return
            await asyncio.sleep(0)
        for task in left:
            self._tell(repr(task))
            task.cancel()
        _, stubborn = await asyncio.wait(left, timeout=1)
        for task in stubborn:
            # The loop would wait for it at the end, for ever.
            asyncio.tasks._unregister_task(task)


def current(loop):
    """The test of the task that the loop is running, and the stack of the main thread."""
    task = asyncio.current_task(loop)
    frame = sys._current_frames().get(threading.main_thread().ident)
    stack = "".join(traceback.format_stack(frame)) if frame else ""
    return task and _test_of(task), stack


def _test_of(task):
    return task.get_context().get(_test) if _tests is None else _tests.get(task)
