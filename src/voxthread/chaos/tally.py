"""What a storm left behind: of its calls, of its sessions, of the processes. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from voxthread.chaos.figures import spread

MORE_FDS = 20
"""Descriptors that they may hold beyond those they had when they were fresh: connections come and go."""
MORE_RSS, MORE_RSS_BYTES = 1.2, 64 * 2**20
"""Memory they may hold beyond that: heaps grow into the size that a load needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a process holds."""

    fds: int
    rss_bytes: int

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(fds=self.fds + other.fds, rss_bytes=self.rss_bytes + other.rss_bytes)


NOTHING = Footprint(fds=0, rss_bytes=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the processes of a role held at the end, against those at the beginning, both without calls."""

    role: str
    before: Footprint
    after: Footprint

    @property
    def has_grown(self) -> bool:
        most_rss = self.before.rss_bytes * MORE_RSS + MORE_RSS_BYTES
        return self.after.fds > self.before.fds + MORE_FDS or self.after.rss_bytes > most_rss


@dataclass(slots=True)
class Tally:
    """Filled while the storm goes on. Failed calls have why, with the session's id."""

    strikes: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    failed: list[str] = field(default_factory=list)
    asked: int = 0
    answered: int = 0
    reply_delays_ms: list[float] = field(default_factory=list)
    takeovers_ms: list[int] = field(default_factory=list)
    reconnects: int = 0
    words_lost: int = 0
    sentences_repeated: int = 0
    session_ids: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    """Processes that outlived the server."""

    def breaches(self) -> Iterator[str]:
        if self.stuck:
            yield f"{len(self.stuck)} sessions stuck: {', '.join(self.stuck[:3])}"
        if self.left:
            yield f"{len(self.left)} processes leaked"
        if grown := [held.role for held in self.held if held.has_grown]:
            yield f"grown: {', '.join(grown)}"
        if self.failed:
            yield f"{len(self.failed)} calls failed: {self.failed[0]}"
        if self.answered < self.asked:
            yield f"{self.asked - self.answered} questions never answered"


def tally_json(tally: Tally) -> dict[str, Any]:
    found = list(tally.breaches())
    return {
        "row": "random",
        "calls": tally.calls,
        "strikes": dict(tally.strikes),
        "asked": tally.asked,
        "answered": tally.answered,
        "added_silence_ms": spread([]),
        "reply_delay_ms": spread(tally.reply_delays_ms),
        "back_ms": spread([]),
        "answered_after_back_ms": spread([]),
        "takeover_ms": spread(tally.takeovers_ms),
        "words_lost": tally.words_lost,
        "sentences_repeated": tally.sentences_repeated,
        "sessions": len(tally.session_ids),
        "sessions_stuck": len(tally.stuck),
        "history_equal_fraction": None,
        "reconnects": tally.reconnects,
        "calls_failed": len(tally.failed),
        "failures": tally.failed,
        "processes_leaked": len(tally.left),
        "held": [_held_json(held) for held in tally.held],
        "passed": not found,
        "breaches": found,
        "runs": [],
    }


def held_between(before: Mapping[str, Footprint], after: Mapping[str, Footprint]) -> list[Held]:
    return [
        Held(role=role, before=before[role], after=after[role]) for role in sorted(before.keys() & after.keys())
    ]


def _held_json(held: Held) -> dict[str, Any]:
    return {
        "role": held.role,
        "fds": [held.before.fds, held.after.fds],
        "rss_mb": [round(each.rss_bytes / 1e6, 1) for each in (held.before, held.after)],
    }
