"""What of a reply was heard: played milliseconds back to words."""

import re
from dataclasses import dataclass, field

from voxthread.core.audio import PACKET_MS

UNFINISHED_MS_PER_CHARACTER = 60
"""Speaking rate assumed for a clause whose synthesis is not done (Piper joe: 55-65 ms per character)."""

_WORD = re.compile(r"\S+")


@dataclass(slots=True)
class Clause:
    text: str
    duration_ms: int = 0
    is_done: bool = False

    def heard(self, played_ms: int) -> str:
        """The words at least half of which lie within `played_ms`, time being spread over characters."""
        duration_ms = self.duration_ms
        if not self.is_done:
            duration_ms = max(duration_ms, len(self.text) * UNFINISHED_MS_PER_CHARACTER)
        if played_ms >= duration_ms:
            return self.text
        reached = len(self.text) * played_ms / duration_ms
        end = 0
        for word in _WORD.finditer(self.text):
            if (word.start() + word.end()) / 2 > reached:
                break
            end = word.end()
        return self.text[:end]

    def word_start_ms(self, played_ms: int) -> int:
        """Where the word begins that is being said at `played_ms`."""
        reached = len(self.text) * played_ms // max(1, self.duration_ms)
        starts = [word.start() for word in _WORD.finditer(self.text) if word.start() <= reached]
        return self.duration_ms * max(starts, default=0) // max(1, len(self.text))


@dataclass(slots=True)
class HeardLedger:
    """The planned clauses of one reply and how long the audio of each is."""

    clauses: list[Clause] = field(default_factory=list)

    @property
    def total_ms(self) -> int:
        return sum(clause.duration_ms for clause in self.clauses)

    @property
    def planned_text(self) -> str:
        return " ".join(clause.text for clause in self.clauses)

    def plan(self, text: str) -> None:
        self.clauses.append(Clause(text.strip()))

    def add_audio(self, clause: int, duration_ms: int) -> None:
        """Audio comes clause by clause; audio of one says that those before it are whole."""
        if not 0 <= clause < len(self.clauses):
            raise ValueError(f"audio of clause {clause}, but {len(self.clauses)} are planned")
        for earlier in self.clauses[:clause]:
            earlier.is_done = True
        self.clauses[clause].duration_ms += duration_ms

    def finish(self) -> None:
        for clause in self.clauses:
            clause.is_done = True

    def word_start_ms(self, played_ms: int) -> int:
        """Where to go on so that the word at `played_ms` is heard whole; whole packets."""
        before_ms = 0
        for clause in self.clauses:
            if played_ms < before_ms + clause.duration_ms:
                before_ms += clause.word_start_ms(played_ms - before_ms)
                break
            before_ms += clause.duration_ms
        return min(before_ms, played_ms) // PACKET_MS * PACKET_MS

    def heard_text(self, played_ms: int) -> str:
        heard: list[str] = []
        left_ms = played_ms
        for clause in self.clauses:
            if left_ms <= 0:
                break
            heard.append(clause.heard(left_ms))
            left_ms -= clause.duration_ms
        return " ".join(text for text in heard if text)
