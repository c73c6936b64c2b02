"""`core/` and `wire/` are pure: no clock, chance, task, environment, file, log or third party.

That is what lets a recorded session be driven again with the same outcome, and the whole kind of unit tests
run without a mock. import-linter checks the layers between our own packages; this checks what lies below.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import voxthread

pytestmark = pytest.mark.unit

PURE_MODULES = {
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "math",
    "operator",
    "re",
    "string",
    "struct",
    "typing",
    "unicodedata",
}
IMPURE_CALLS = {"__import__", "breakpoint", "eval", "exec", "hash", "id", "input", "open", "print"}
"""`hash` and `id` differ from one process to the next, so nothing may be decided by them."""
IMPURE_METHODS = {"now", "today", "utcnow"}

SOURCES = Path(voxthread.__file__).parent
PURE_FILES = sorted(path for package in ("core", "wire") for path in (SOURCES / package).rglob("*.py"))


def breaches(source: str, allowed: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt | ast.expr):
            continue
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=module, level=level):
                imported = ["." * level + (module or "")]
            case _:
                imported = []
        for name in imported:
            if name.partition(".")[0] not in allowed:
                yield f"line {node.lineno} imports {name}"
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                yield f"line {node.lineno} calls {name}()"
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                yield f"line {node.lineno} calls .{name}()"
            case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield f"line {node.lineno} awaits"


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_pure_module_does_nothing_impure(path: Path) -> None:
    allowed = PURE_MODULES | {"voxthread"} | ({"msgspec"} if "wire" in path.parts else set())
    assert list(breaches(path.read_text(), allowed)) == []


def test_the_pure_packages_are_found() -> None:
    assert {path.parent.name for path in PURE_FILES} == {"core", "wire"}


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import choice",
        "import asyncio.tasks",
        "from . import log",
        "def f():\n    import os",
        "datetime.now()",
        "print('x')",
        "async def f(x):\n    await x",
    ],
)
def test_an_impure_line_is_a_breach(source: str) -> None:
    assert len(list(breaches(source, PURE_MODULES))) == 1
