"""Words: those that callers say where they are counted, and how many of them were understood."""

import re
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from itertools import cycle, islice
from typing import Final

REASONS_OF_A_WISH: Final = 4


def lines() -> list[str]:
    """Over 2,000 words, no line twice."""
    texts = tomllib.loads(files("voxthread.media_bench").joinpath("english.toml").read_text("utf-8"))
    wishes, reasons = texts["wishes"], texts["reasons"]
    return [
        f"{wish}, {reason}."
        for number, wish in enumerate(wishes)
        for reason in islice(cycle(reasons), number * REASONS_OF_A_WISH, (number + 1) * REASONS_OF_A_WISH)
    ]


def plain(text: str) -> list[str]:
    """Lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, deletions and insertions at least (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, 1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]
