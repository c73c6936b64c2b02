"""How a reply is encoded, by what its caller reports of the line. Pure.

loss   0       5 %            15 %
       | STEADY | LOSSY        | BAD            round trip from 400 ms on: CONGESTED instead
       worse at once, better after `CALM_REPORTS` in a row
"""

from typing import Final, NamedTuple


class Encoding(NamedTuple):
    """`expected_loss_percent` is what the encoder prepares for: the higher, the better a lost packet can be
    rebuilt from the one behind it, at the cost of the rest."""

    bitrate_bps: int
    expected_loss_percent: int


STEADY: Final = Encoding(32_000, 10)
"""Also what a call begins with: half of all losses come before anybody has reported one. Measured with libopus
1.6 on speech, the redundancy rebuilds a lost packet at 8 dB; nothing of the voice's band is given up for it."""

LOSSY: Final = Encoding(40_000, 20)
"""Rebuilds at 10 dB."""

BAD: Final = Encoding(40_000, 30)

CONGESTED: Final = Encoding(20_000, 20)
"""Loss on a line that is slow too is the line's own queue, which more bits would lengthen. Rebuilds at 6.5 dB;
under 20 kbit/s libopus carries no redundancy at all."""

LOSSY_FROM: Final = 0.05
BAD_FROM: Final = 0.15
SLOW_FROM_MS: Final = 400
CALM_REPORTS: Final = 50
"""Ten seconds of playing, several reports of the caller's own."""

_RELIEF: Final = 0.6
"""A line is better when loss is under this share of what made it worse."""


class LineQuality:
    """One caller's line, from report to report."""

    def __init__(self) -> None:
        self._encoding = STEADY
        self._calm = 0

    @property
    def encoding(self) -> Encoding:
        return self._encoding

    def reported(self, loss_fraction: float | None, round_trip_ms: int | None) -> bool:
        """Note a report; whether `encoding` is another one now. Nothing is concluded where nothing is known."""
        if loss_fraction is None:
            return False
        worst = encoding_for(loss_fraction, round_trip_ms)
        if _ORDER.index(worst) > _ORDER.index(self._encoding):
            return self._change(worst)
        eased = encoding_for(loss_fraction / _RELIEF, round_trip_ms)
        if _ORDER.index(eased) >= _ORDER.index(self._encoding):
            self._calm = 0
            return False
        self._calm += 1
        return self._calm >= CALM_REPORTS and self._change(eased)

    def _change(self, encoding: Encoding) -> bool:
        self._encoding, self._calm = encoding, 0
        return True


_ORDER: Final = (STEADY, LOSSY, BAD, CONGESTED)


def encoding_for(loss_fraction: float, round_trip_ms: int | None) -> Encoding:
    """What such a line wants if it stays like that."""
    if loss_fraction < LOSSY_FROM:
        return STEADY
    if round_trip_ms is not None and round_trip_ms >= SLOW_FROM_MS:
        return CONGESTED
    return LOSSY if loss_fraction < BAD_FROM else BAD
