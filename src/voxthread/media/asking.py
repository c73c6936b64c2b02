"""Which lost packets to ask for again, and when (RFC 4585, generic NACK). Pure.

packets  ... 7 -- 9 ........ 10 ........ 11          a hole is given up `WAIT_MS` after 9 arrived
                  | noticed
                  | waits as long as packets are usually late
                  | asked ----> answered one round trip later, if at all
"""

from dataclasses import dataclass
from typing import Final

from voxthread.media.reorder import WAIT_MS
from voxthread.media.rtp import unwrap

MAX_ROUND_TRIP_MS: Final = 40
"""An answer that takes longer comes when the hole has been given up, or hardly before."""

MAX_HOLE: Final = 16
"""Packets in a row: what one request can name, and more than a line can bring back in time."""

OVERTAKING_MS: Final = 10
"""Jitter up to which packets, 20 ms apart, hardly overtake one another: a hole is then a loss. To wait for as
long as the jitter costs more (simulated, 30 ms of it, a tenth lost: 1.9 % unrecovered instead of 0.4 %) than to
ask for a few packets that were only late."""

MAX_ASKED: Final = 2
_MARGIN_MS: Final = 5


@dataclass(slots=True)
class _Hole:
    noticed_ms: int
    asked_ms: int = 0
    times_asked: int = 0


class Asking:
    """The holes of one source."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._shortest_trip_ms: int | None = None
        self._holes: dict[int, _Hole] = {}

    @property
    def has_holes(self) -> bool:
        return bool(self._holes)

    def arrived(self, sequence: int, now_ms: int, *, round_trip_ms: int | None) -> bool:
        """Note a packet; whether it came because it was asked for."""
        if round_trip_ms is not None:
            self._shortest_trip_ms = min(self._shortest_trip_ms or round_trip_ms, round_trip_ms)
        if self._highest is None:
            self._highest = sequence
            return False
        place = unwrap(sequence, self._highest, 16)
        ahead = place - self._highest
        if ahead >= 1:
            if ahead <= MAX_HOLE + 1:
                self._holes.update((missing, _Hole(now_ms)) for missing in range(self._highest + 1, place))
            else:
                self._holes.clear()
            self._highest = place
            return False
        hole = self._holes.pop(place, None)
        if hole is None:
            if -ahead > MAX_HOLE * 8:  # the source counts from somewhere else
                self._highest = sequence
                self._holes.clear()
            return False
        # What comes sooner than an answer could was only late.
        soonest_ms = hole.asked_ms + (self._shortest_trip_ms or 0) * 3 // 4
        return hole.times_asked > 0 and now_ms >= soonest_ms

    def due(self, now_ms: int, *, round_trip_ms: int | None, jitter_ms: int) -> list[int]:
        """Sequence numbers to ask for now; `round_trip_ms` is None while it is not known."""
        trip_ms = round_trip_ms or 0
        due: list[int] = []
        for place, hole in [*self._holes.items()]:
            last_ms = hole.noticed_ms + WAIT_MS - trip_ms - _MARGIN_MS
            if now_ms > last_ms:
                if now_ms > hole.noticed_ms + 2 * WAIT_MS:
                    del self._holes[place]
                continue
            if trip_ms > MAX_ROUND_TRIP_MS or hole.times_asked >= MAX_ASKED:
                continue
            if hole.times_asked:
                ripe_ms = hole.asked_ms + trip_ms + _MARGIN_MS
            else:
                ripe_ms = min(hole.noticed_ms + max(0, jitter_ms - OVERTAKING_MS), last_ms)
            if now_ms >= ripe_ms:
                hole.asked_ms, hole.times_asked = now_ms, hole.times_asked + 1
                due.append(place & 0xFFFF)
        return due
