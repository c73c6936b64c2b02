"""The caller's packets in order, as soon as order allows. Pure: time comes in, deadlines go out.

Packets in sequence are handed on at once; an agent has no loudspeaker, so there is no playout delay. Only a
missing packet makes those behind it wait, each at most `wait_ms`; then its place is handed on as a hole.
"""

from typing import Final, NamedTuple

from voxthread.media.opus_packets import packet_samples
from voxthread.media.rtp import RtpPacket, unwrap

WAIT_MS: Final = 60
"""Jitter of a bad mobile line, and what the in-band FEC decoder can be kept waiting for."""

MAX_JUMP: Final = 3000
"""A packet further ahead belongs to a restarted stream (RFC 3550 appendix A.1, MAX_DROPOUT)."""

MAX_LATENESS: Final = 100
"""A packet further behind belongs to a restarted stream (RFC 3550 appendix A.1, MAX_MISORDER)."""

MAX_HOLES: Final = 50
"""A second. Longer losses are told by the timestamp alone, as silence is."""

MAX_HELD: Final = 64
"""More packets than any sender produces in `WAIT_MS`; a flood ends the wait."""


class InOrder(NamedTuple):
    """A packet, or the place of one that never came (no payload), on the sender's unwrapped 48 kHz clock."""

    payload: bytes
    timestamp: int
    samples: int


class Reorder:
    """Puts the packets of one RTP source in order.

    Counts `lost` (their holes were handed on) and `late` packets (came after that, or twice).
    """

    def __init__(self, *, wait_ms: int = WAIT_MS) -> None:
        self.lost = 0
        self.late = 0
        self._wait_ms = wait_ms
        self._next: int | None = None
        self._held: dict[int, tuple[RtpPacket, int]] = {}
        self._last = InOrder(b"", 0, 0)
        self._restart_at: int | None = None

    def handle(self, packet: RtpPacket, now_ms: int) -> list[InOrder]:
        if self._next is None:
            self._begin_at(packet)
        assert self._next is not None
        place = unwrap(packet.sequence, self._next, 16)
        if not -MAX_LATENESS <= place - self._next <= MAX_JUMP:
            return self._suspect(packet)
        self._restart_at = None
        if place < self._next or place in self._held:
            self.late += 1
            return []
        self._held[place] = (packet, now_ms)
        ready = self._take_in_sequence()
        while len(self._held) > MAX_HELD:
            ready += self._pass_hole()
        return ready

    def deadline(self) -> int | None:
        """When `handle_deadline` has something to do, or None."""
        if not self._held:
            return None
        return min(arrived_ms for _, arrived_ms in self._held.values()) + self._wait_ms

    def handle_deadline(self, now_ms: int) -> list[InOrder]:
        """Give up the holes in front of packets that have waited long enough."""
        ready: list[InOrder] = []
        while (deadline := self.deadline()) is not None and deadline <= now_ms:
            ready += self._pass_hole()
        return ready

    def drain(self) -> list[InOrder]:
        """Everything held, holes included: the source has ended."""
        ready: list[InOrder] = []
        while self._held:
            ready += self._pass_hole()
        return ready

    def _begin_at(self, packet: RtpPacket) -> None:
        self._next = packet.sequence
        self._last = InOrder(b"", packet.timestamp, 0)

    def _suspect(self, packet: RtpPacket) -> list[InOrder]:
        """Two packets in a row far away are a restarted source; one is noise (RFC 3550 appendix A.1)."""
        if packet.sequence != self._restart_at:
            self._restart_at = (packet.sequence + 1) & 0xFFFF
            self.late += 1
            return []
        ready = self.drain()
        self._next = packet.sequence + 1
        self._restart_at = None
        return [*ready, *self._deliver(packet)]

    def _take_in_sequence(self) -> list[InOrder]:
        assert self._next is not None
        ready: list[InOrder] = []
        while (held := self._held.pop(self._next, None)) is not None:
            self._next += 1
            ready += self._deliver(held[0])
        return ready

    def _pass_hole(self) -> list[InOrder]:
        assert self._next is not None
        first = min(self._held)
        missing = first - self._next
        self._next = first
        self.lost += missing
        return [*self._holes(missing, self._held[first][0]), *self._take_in_sequence()]

    def _holes(self, missing: int, following: RtpPacket) -> list[InOrder]:
        """Holes if the timestamps agree that each missing packet was as long as the last one."""
        start, step = self._last.timestamp + self._last.samples, self._last.samples
        gap = unwrap(following.timestamp, self._last.timestamp, 32) - start
        if missing > MAX_HOLES or not step or gap != missing * step:
            return []
        return [InOrder(b"", start + index * step, step) for index in range(missing)]

    def _deliver(self, packet: RtpPacket) -> list[InOrder]:
        samples = packet_samples(packet.payload)
        if not samples:
            return []
        timestamp = unwrap(packet.timestamp, self._last.timestamp, 32)
        self._last = InOrder(packet.payload, timestamp, samples)
        return [self._last]
