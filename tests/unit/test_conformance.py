"""Every number of docs/conformance.md has its tests, and every numbered test its number."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "conformance.md").read_text()
NUMBERS = {f"w{number:02}" for number in range(1, 47)} | {f"s{number:02}" for number in range(1, 19)}


def test_the_page_has_each_number_once() -> None:
    listed = re.findall(r"^\| ([WS])(\d+) \|", PAGE, re.MULTILINE)
    assert [f"{kind.lower()}{int(number):02}" for kind, number in listed] == sorted(
        NUMBERS, key=lambda number: (number[0] == "s", number)
    )


def test_each_number_is_in_the_name_of_a_test() -> None:
    names = [
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    ]
    assert {number for name in names for number in re.findall(r"_([ws]\d\d)(?=_)", name)} == NUMBERS
