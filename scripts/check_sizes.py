"""No source file above 500 lines, no function above 60; files above 300 are listed as growing too large."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 500
LISTED_LINES = 300
FUNCTION_LINES = 60


def long_functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of each function that does not fit."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield node.name, node.lineno, lines


def main() -> int:
    failures = 0
    for path in sorted(Path("src").rglob("*.py")):
        source = path.read_text()
        lines = source.count("\n")
        if lines > FILE_LINES:
            failures += 1
            print(f"{path}: {lines} lines, more than {FILE_LINES}")
        elif lines > LISTED_LINES:
            print(f"{path}: {lines} lines, getting large")
        for name, line, length in long_functions(source):
            failures += 1
            print(f"{path}:{line}: {name} has {length} lines, more than {FUNCTION_LINES}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
