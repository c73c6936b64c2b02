"""Cutting a stream of text into clauses that can be spoken one after the other.

The first clause should be short, because the caller waits for it; later ones should be whole sentences,
because a voice breathes at punctuation.
"""

import re
from dataclasses import dataclass

_SENTENCE_END = re.compile(r"[.!?…。\uff01\uff1f]+[\"')\]]*(?=\s)")
_CLAUSE_END = re.compile(r"[,;:—、\uff0c\uff1b\uff1a]+(?=\s)")
_ABBREVIATION = re.compile(r"(?:^|\s)(?:\w|mr|mrs|ms|dr|prof|st|no|vs|etc|e\.g|i\.e|approx)\.$", re.IGNORECASE)
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClausePolicy:
    min_words: int = 2
    """A clause of fewer words waits for more ("Yes," alone sounds clipped)."""
    first_words: int = 7
    """The first clause is cut after this many words even without punctuation; 0 never."""
    max_characters: int = 240
    """No clause is longer: it bounds the time a synthesis may take."""


class ClauseSplitter:
    """Feed it deltas as they come; it hands back whole clauses, and the rest when finished."""

    __slots__ = ("_buffer", "_policy", "_spoken")

    def __init__(self, policy: ClausePolicy | None = None) -> None:
        self._policy = policy or ClausePolicy()
        self._buffer = ""
        self._spoken = 0

    def feed(self, delta: str) -> list[str]:
        self._buffer += delta
        clauses: list[str] = []
        while (end := self._next_end()) is not None:
            clauses.extend(self._take(end))
        return clauses

    def finish(self) -> list[str]:
        return self._take(len(self._buffer))

    def _take(self, end: int) -> list[str]:
        clause = " ".join(self._buffer[:end].split())
        self._buffer = self._buffer[end:]
        if not clause:
            return []
        self._spoken += 1
        return [clause]

    def _next_end(self) -> int | None:
        ends = [match.end() for match in _SENTENCE_END.finditer(self._buffer)]
        ends += [match.end() for match in _CLAUSE_END.finditer(self._buffer)] if not self._spoken else []
        for end in sorted(ends):
            if self._is_clause(self._buffer[:end]):
                return min(end, self._longest())
        if not self._spoken and self._policy.first_words:
            words = list(_WORD.finditer(self._buffer))
            if len(words) > self._policy.first_words:
                return words[self._policy.first_words - 1].end()
        return self._longest() if len(self._buffer) > self._policy.max_characters else None

    def _is_clause(self, text: str) -> bool:
        return len(text.split()) >= self._policy.min_words and not _ABBREVIATION.search(text)

    def _longest(self) -> int:
        """End of the last whole word within the longest clause allowed."""
        limit = self._policy.max_characters
        if len(self._buffer) <= limit:
            return len(self._buffer)
        space = self._buffer.rfind(" ", 1, limit)
        return space if space > 0 else limit
