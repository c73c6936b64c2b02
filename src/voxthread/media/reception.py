"""What a receiver can say of a source: loss, jitter, when it last reported (RFC 3550 A.3, A.8). Pure."""

from typing import Final

from voxthread.media.reorder import MAX_JUMP
from voxthread.media.rtcp import ReportBlock
from voxthread.media.rtp import OPUS_CLOCK_PER_MS, unwrap

_JITTER_SHARE: Final = 16
"""Of the newest difference in the running mean, and the fixed point it is kept in."""


class Reception:
    """One source of a peer, from its first packet."""

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self._first = 0
        self._highest: int | None = None
        self._received = 0
        self._reported_expected = 0
        self._reported_received = 0
        self._transit: int | None = None
        self._jitter_16 = 0
        self._last_sr = 0
        self._last_sr_at_us = 0

    @property
    def jitter_ms(self) -> int:
        return self._jitter_16 // _JITTER_SHARE // OPUS_CLOCK_PER_MS

    def received(self, sequence: int, timestamp: int, arrival_us: int) -> None:
        """A packet arrived, once."""
        if self._highest is None:
            self._first = self._highest = sequence
        place = unwrap(sequence, self._highest, 16)
        if abs(place - self._highest) > MAX_JUMP:
            self._restart(place)
        self._received += 1
        if place < self._highest:
            return
        self._highest = place
        transit = (arrival_us * OPUS_CLOCK_PER_MS // 1000 - timestamp) & 0xFFFFFFFF
        if self._transit is not None:
            difference = abs(unwrap(transit - self._transit & 0xFFFFFFFF, 0, 32))
            if difference < MAX_JUMP * OPUS_CLOCK_PER_MS:  # else the timestamps have jumped
                self._jitter_16 += difference - (self._jitter_16 + _JITTER_SHARE // 2) // _JITTER_SHARE
        self._transit = transit

    def sender_reported(self, compact_ntp: int, arrival_us: int) -> None:
        self._last_sr, self._last_sr_at_us = compact_ntp, arrival_us

    def report(self, now_us: int) -> ReportBlock:
        """Of the time since the report before, which makes it the report before."""
        highest = self._highest if self._highest is not None else self._first
        expected = highest - self._first + 1
        expected_since = expected - self._reported_expected
        lost_since = expected_since - (self._received - self._reported_received)
        self._reported_expected, self._reported_received = expected, self._received
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=max(0, lost_since) / expected_since if expected_since > 0 else 0.0,
            lost=expected - self._received,
            highest_sequence=highest & 0xFFFFFFFF,
            jitter=self._jitter_16 // _JITTER_SHARE,
            last_sr=self._last_sr,
            delay_since_last_sr=(now_us - self._last_sr_at_us) * 65536 // 1_000_000 if self._last_sr else 0,
        )

    def _restart(self, place: int) -> None:
        """The source counts from somewhere else: what was lost before stays lost, nothing in between is."""
        shift = place - 1 - (self._highest or 0)
        self._first += shift
        self._highest = place - 1
        self._transit = None
