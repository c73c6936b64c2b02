"""From a caller's RTP packets to the batches that go on the log. Pure.

The log wants one timeline for the whole session: 48 kHz samples since its first packet, whatever sources and
peers the audio came from. Within a source it follows the sender's timestamps; where those make no sense (a
new source, a jump) it follows the clock. Who hears it counts the audio, so silence that a source did not send
(a caller who is muted, Opus DTX) is put in, by the clock while it lasts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from voxthread.core.audio import PACKET_MS
from voxthread.media.opus_packets import SILENCE
from voxthread.media.reorder import WAIT_MS, InOrder, Reorder
from voxthread.media.rtp import OPUS_CLOCK_PER_MS, RtpPacket

QUIET_MS: Final = 60
"""Nothing came for so long: send what there is instead of waiting for a full batch."""

SILENT_AFTER_MS: Final = 300
"""Nothing came for so long: the caller is silent. Most lines stall for less. An encoder that stops sending in
silence (DTX) has sent 200 ms of it before, so this delays the end of nobody's speech."""

MAX_DRIFT_MS: Final = 2_000
"""Timestamps further from the clock than this, in one step, are a jump. Nor is more silence put in at once."""

_SILENCE_SAMPLES: Final = PACKET_MS * OPUS_CLOCK_PER_MS

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
        if self._offset is not None and now_ms >= self._arrived_at_ms + SILENT_AFTER_MS:
            batches += self._be_silent(now_ms, batch_ms)
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
            if self._is_past(item):
                continue
            goes_on = self._offset is not None
            position = self._place(item, now_ms)
            if goes_on:
                batches += self._bridge(position, now_ms)
            if position != self._end or packet_ms != self._batch_packet_ms:
                batches += self._cut()
            if not self._batch:
                self._batch_start, self._batch_packet_ms = position, packet_ms
            self._batch.append(item.payload)
            self._end, self._end_at_ms = position + item.samples, now_ms
            # A hole stays with the packet behind it, whose redundancy may fill it.
            if item.payload and len(self._batch) * packet_ms >= batch_ms:
                batches += self._cut()
        return batches

    def _be_silent(self, now_ms: int, batch_ms: int) -> list[Batch]:
        """Up to `WAIT_MS` ago, as more may be under way."""
        assert self._end_at_ms is not None
        silent_ms = now_ms - WAIT_MS - self._end_at_ms
        if silent_ms > MAX_DRIFT_MS:  # the process was asleep
            self._end += (silent_ms - MAX_DRIFT_MS) * OPUS_CLOCK_PER_MS
            self._end_at_ms += silent_ms - MAX_DRIFT_MS
            silent_ms = MAX_DRIFT_MS
        if silent_ms < batch_ms:
            return []
        packets = silent_ms // PACKET_MS
        self._end_at_ms += packets * PACKET_MS
        return [*self._cut(), self._silence(packets)]

    def _bridge(self, position: int, now_ms: int) -> list[Batch]:
        """The silence that was not sent before what starts at `position`, no longer than time has passed."""
        assert self._end_at_ms is not None
        gap = min(position - self._end, (now_ms - self._end_at_ms) * OPUS_CLOCK_PER_MS)
        if gap < _SILENCE_SAMPLES:
            return []
        packets = min(gap, MAX_DRIFT_MS * OPUS_CLOCK_PER_MS) // _SILENCE_SAMPLES
        return [*self._cut(), self._silence(packets)]

    def _silence(self, packets: int) -> Batch:
        start, self._end = self._end, self._end + packets * _SILENCE_SAMPLES
        return Batch(start, (SILENCE,) * packets, PACKET_MS)

    def _is_past(self, item: InOrder) -> bool:
        """Whether it is the place of a packet that silence has taken already."""
        return not item.payload and self._offset is not None and item.timestamp + self._offset < self._end

    def _place(self, item: InOrder, now_ms: int) -> int:
        """Where the packet starts on the session's timeline."""
        if self._end_at_ms is None:
            self._offset = -item.timestamp
            return 0
        elapsed = max(0, now_ms - self._end_at_ms) * OPUS_CLOCK_PER_MS
        position = self._end + max(0, elapsed - item.samples)
        if self._offset is not None:
            expected = item.timestamp + self._offset
            if self._end <= expected <= self._end + elapsed + MAX_DRIFT_MS * OPUS_CLOCK_PER_MS:
                return expected
            if expected < self._end:  # what was taken for silence was under way
                position = self._end
        self._offset = position - item.timestamp
        return position

    def _cut(self) -> list[Batch]:
        if not self._batch:
            return []
        batch = Batch(self._batch_start, tuple(self._batch), self._batch_packet_ms)
        self._batch = []
        return [batch]
