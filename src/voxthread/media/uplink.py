"""From a caller's RTP packets to the batches that go on the log. Pure.

The log wants one timeline for the whole session: 48 kHz samples since its first packet, whatever sources and
peers the audio came from. Within a source it follows the sender's timestamps, so that silence that was not
sent stays as long as it was; where those make no sense (a new source, a jump) it follows the clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from voxthread.media.reorder import InOrder, Reorder
from voxthread.media.rtp import OPUS_CLOCK_PER_MS, RtpPacket

QUIET_MS: Final = 60
"""Nothing came for so long: send what there is instead of waiting for a full batch."""

MAX_DRIFT_MS: Final = 2_000
"""Timestamps further from the clock than this, in one step, are a jump."""

_PACKET_DURATIONS_MS: Final = frozenset({10, 20, 40, 60, 80, 100, 120})


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive packets of one duration; an empty one is a hole."""

    timestamp: int
    packets: tuple[bytes, ...]
    packet_ms: int


class Uplink:
    """The caller's audio of one session."""

    def __init__(self) -> None:
        self.unusable = 0
        """Packets of a duration no record can hold (2.5 and 5 ms)."""
        self._ssrc: int | None = None
        self._reorder = Reorder()
        self._lost_before = 0
        self._offset: int | None = None
        self._end = 0
        self._end_at_ms: int | None = None
        self._batch: list[bytes] = []
        self._batch_start = 0
        self._batch_packet_ms = 0
        self._arrived_at_ms = 0

    @property
    def lost(self) -> int:
        return self._lost_before + self._reorder.lost

    def handle(self, packet: RtpPacket, now_ms: int, *, batch_ms: int) -> list[Batch]:
        """A packet arrived; return what is now to be sent, in batches of `batch_ms` if all goes well."""
        batches: list[Batch] = []
        if packet.ssrc != self._ssrc:
            batches = self.end_source(now_ms)
            self._ssrc = packet.ssrc
        self._arrived_at_ms = now_ms
        return batches + self._add(self._reorder.handle(packet, now_ms), now_ms, batch_ms)

    def deadline(self) -> int | None:
        deadlines = [self._reorder.deadline(), self._arrived_at_ms + QUIET_MS if self._batch else None]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_deadline(self, now_ms: int, *, batch_ms: int) -> list[Batch]:
        batches = self._add(self._reorder.handle_deadline(now_ms), now_ms, batch_ms)
        if now_ms >= self._arrived_at_ms + QUIET_MS:
            batches += self._cut()
        return batches

    def end_source(self, now_ms: int) -> list[Batch]:
        """The peer is gone or sends from a new source: hand on what is held."""
        batches = self._add(self._reorder.drain(), now_ms, batch_ms=0) + self._cut()
        self._lost_before += self._reorder.lost
        self._reorder = Reorder()
        self._offset = None
        self._ssrc = None
        return batches

    def _add(self, ready: Iterable[InOrder], now_ms: int, batch_ms: int) -> list[Batch]:
        batches: list[Batch] = []
        for item in ready:
            packet_ms, rest = divmod(item.samples, OPUS_CLOCK_PER_MS)
            if rest or packet_ms not in _PACKET_DURATIONS_MS:
                self.unusable += 1
                continue
            position = self._place(item, now_ms)
            if position != self._end or packet_ms != self._batch_packet_ms:
                batches += self._cut()
            if not self._batch:
                self._batch_start, self._batch_packet_ms = position, packet_ms
            self._batch.append(item.payload)
            self._end, self._end_at_ms = position + item.samples, now_ms
            if len(self._batch) * packet_ms >= batch_ms:
                batches += self._cut()
        return batches

    def _place(self, item: InOrder, now_ms: int) -> int:
        """Where the packet starts on the session's timeline."""
        if self._end_at_ms is None:
            self._offset = -item.timestamp
            return 0
        elapsed = max(0, now_ms - self._end_at_ms) * OPUS_CLOCK_PER_MS
        if self._offset is not None:
            position = item.timestamp + self._offset
            if self._end <= position <= self._end + elapsed + MAX_DRIFT_MS * OPUS_CLOCK_PER_MS:
                return position
        position = self._end + elapsed
        self._offset = position - item.timestamp
        return position

    def _cut(self) -> list[Batch]:
        if not self._batch:
            return []
        batch = Batch(self._batch_start, tuple(self._batch), self._batch_packet_ms)
        self._batch = []
        return [batch]
