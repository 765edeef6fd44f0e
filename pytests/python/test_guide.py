"""The Python of the README and the guide does what it shows, and what it asks for is what the demo asks for."""

import ast
import asyncio
import inspect
import pathlib
import re
import sys
import types

import bridge
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "src").glob("*.md"))]
DEMO = ROOT / "docs" / "examples" / "demo"


def blocks(page, language):
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


PYTHON = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"))
]


def example():
    """What stands for the guide's extension module: its functions, as far as Python sees them."""
    module = types.ModuleType("example")
    module.rust_sleep = lambda seconds: bridge.value("coroutine", seconds, True)
    module.add = lambda a, b: bridge.value("coroutine", a + b, True)

    async def words(text):
        for word in text.split():
            yield word

    def lengths():
        # As the Rust function does it.
        (texts, to_measure), (measured, lengths) = bridge.channel(10), bridge.channel(10)

        async def measure():
            async for text in to_measure:
                await measured.send(len(text))
            measured.close()

        module.measuring = asyncio.ensure_future(measure())
        return texts, lengths

    module.words, module.lengths = words, lengths
    return module


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(run, monkeypatch, capsys, code):
    if sys.version_info < (3, 11) and re.search(r"asyncio\.(timeout|TaskGroup)", code):
        pytest.skip("new in Python 3.11")
    module = example()
    monkeypatch.setitem(sys.modules, "example", module)
    compiled = compile(code, "example.py", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = {"__name__": "example", "example": module, "words": module.words}
    # `async for` and `await` may stand alone.
    if compiled.co_flags & inspect.CO_COROUTINE:
        run(eval(compiled, names))
    else:
        exec(compiled, names)
    printed = capsys.readouterr().out
    assert "print(" not in code or printed


def test_the_guide_has_python():
    assert len(PYTHON) >= 6


def test_the_guide_and_the_demo_are_built_alike():
    build_system = re.search(r"^\[build-system\]\n(?:.+\n)+", (DEMO / "pyproject.toml").read_text(), re.MULTILINE)
    assert any(build_system[0] in code for code in blocks(ROOT / "docs" / "src" / "packaging.md", "toml"))


def test_the_demo_has_a_stub_for_each_function():
    rust = re.findall(r"#\[pyfunction\]\s+fn (\w+)\(", (DEMO / "src" / "lib.rs").read_text())
    stub = ast.parse((DEMO / "pyo3_await_demo.pyi").read_text())
    assert rust and [item.name for item in stub.body if isinstance(item, ast.FunctionDef)] == rust
