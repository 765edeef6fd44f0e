"""Several extension modules, each with a copy of this library in it, in one process and on one event loop."""

import asyncio
import importlib.machinery
import importlib.util
import pathlib
import shutil
import subprocess
import sys

import bridge
import pytest
from support import in_task


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same extension module from another file: the process has all that is static in it a second time."""
    file = pathlib.Path(getattr(bridge, "bridge", bridge).__file__)
    copy = shutil.copy(file, tmp_path_factory.mktemp("other"))
    loader = importlib.machinery.ExtensionFileLoader("bridge", str(copy))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bridge", loader))
    loader.exec_module(module)
    return module


def test_they_share_nothing(other):
    assert other.Gate is not bridge.Gate
    assert other.RustPanic is not bridge.RustPanic
    assert not issubclass(other.RustPanic, bridge.RustPanic)


async def test_each_serves_the_same_loop(other, way):
    modules = [bridge, other] * 50
    gates = [module.Gate() for module in modules]
    waiting = [asyncio.ensure_future(gate.wait(way, number)) for number, gate in enumerate(gates)]
    await asyncio.sleep(0)
    for gate in gates:
        gate.wait_for_starts(1)
        gate.open(1)
    assert await asyncio.gather(*waiting) == list(range(100))


async def test_one_awaits_the_other(other, way):
    async def python():
        return await other.value(way, "the value", True)

    # Python, the first, Python, the second, and back.
    assert await other.call(way, bridge.call(way, in_task(bridge.call(way, python())))) == "the value"


async def test_a_panic_is_that_of_its_module(other, way):
    with pytest.raises(other.RustPanic):
        await other.panic(way, "str", True)
    # It passes through the other as any exception does.
    with pytest.raises(other.RustPanic):
        await bridge.call(way, in_task(other.panic(way, "str", True)))


async def test_a_cancellation_reaches_through_both(other, way):
    gate = other.Gate()

    async def python():
        await gate.wait(way)

    task = asyncio.ensure_future(in_task(bridge.call(way, python())))
    while gate.started < 1:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The event loop carries it on.
    while gate.dropped < 1:
        await asyncio.sleep(0)


def test_both_end_with_the_loop(other, new_loop, way):
    gates = [bridge.Gate(), other.Gate()]
    loop = new_loop()

    async def start():
        awaitables = [gate.wait(way) for gate in gates]
        if way != "future":
            for awaitable in awaitables:
                awaitable.send(None)
        for gate in gates:
            gate.wait_for_starts(1)
        return awaitables

    awaitables = loop.run_until_complete(start())
    loop.close()
    for gate in gates:
        gate.wait_for_drops(1)
    del awaitables


IN_A_SUBINTERPRETER = """
import asyncio, sys
try:
    import _interpreters as interpreters
    number = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    number = interpreters.create(isolated=False)
interpreters.run_string(number, f'''
import asyncio
import bridge
async def in_loop(make):
    return make()
try:
    {sys.argv[1]}
except RuntimeError as error:
    print("main interpreter" in str(error))
''')
interpreters.destroy(number)
import bridge
async def main():
    for way in ["coroutine", "eager", "local", "future"]:
        assert await bridge.value(way, 7, True) == 7
    async for _ in bridge.numbers("runtime", 2, False):
        pass
    sender, receiver = bridge.channel(1)
    await sender.send(7)
    return await receiver.receive()
print(asyncio.run(main()))
"""


@pytest.mark.parametrize(
    "use",
    [
        'asyncio.run(bridge.value("coroutine", 1, True))',
        'asyncio.run(bridge.value("eager", 1, True))',
        'asyncio.run(bridge.value("local", 1, False))',
        'asyncio.run(in_loop(lambda: bridge.value("future", 1, True)))',
        'asyncio.run(bridge.numbers("runtime", 1, True).__anext__())',
        "asyncio.run(in_loop(bridge.current_locals))",
        "bridge.channel(1)",
        "bridge.Gate().block_on()",
        "bridge.run(None)",
    ],
)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="there a thread in one cannot attach, and PyO3 waits for ever")
def test_a_subinterpreter_is_refused_and_leaves_the_main_one_as_it_was(use):
    """One of the old kind: the new ones do not even import the module."""
    command = [sys.executable, "-W", "ignore", "-c", IN_A_SUBINTERPRETER, use]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout.split(), done.returncode) == (["True", "7"], 0), done.stderr
