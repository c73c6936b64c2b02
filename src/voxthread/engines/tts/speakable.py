"""Any text, made fit for a voice: nothing a phonemizer chokes on, in pieces of bounded length."""

import re
import unicodedata
from collections.abc import Iterator

MAX_PIECE_CHARACTERS = 240
"""Bounds the time until the first audio of a piece; about 15 s of speech."""

_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]]*\s")
_CLAUSE_END = re.compile(r"[,;:—]\s")
_SPACE = re.compile(r"\s")


def speakable(text: str) -> str:
    """`text` without control characters, lone surrogates and runs of white space."""
    return " ".join("".join(map(_replaced, text)).split())


def _replaced(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":  # invisible joiners and hyphens, which do not end a word
        return ""
    return " " if category.startswith("C") else character


def pieces(text: str, limit: int = MAX_PIECE_CHARACTERS) -> Iterator[str]:
    """Cut `text` where a speaker would pause, in pieces of at most `limit` characters."""
    while len(text) > limit:
        end = _last_end(text[: limit + 1]) or limit
        yield text[:end].strip()
        text = text[end:].lstrip()
    if text:
        yield text


def _last_end(text: str) -> int:
    """Where to cut: after the last sentence, else clause, else word that is whole in `text`; 0 for nowhere."""
    for boundary in (_SENTENCE_END, _CLAUSE_END, _SPACE):
        if ends := [match.end() for match in boundary.finditer(text)]:
            return min(ends[-1], len(text) - 1)
    return 0
