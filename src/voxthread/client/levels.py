"""When was there sound? Level detection on samples, and a log of sound on the caller's clock."""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

LOUD_DBFS = -50
"""A sample above this is sound, one below it is silence, for every figure this client prints."""

SILENT_LEVEL = 127

_LOUD_AMPLITUDE = int(32_768 * 10 ** (LOUD_DBFS / 20))


@dataclass(frozen=True, slots=True)
class SampleSpan:
    """The first and the last sound of a stretch of samples, as positions in it."""

    first: int
    last: int


def loud_span(pcm: bytes) -> SampleSpan | None:
    """Where s16le mono samples are above `LOUD_DBFS`; None if nowhere."""
    samples = np.frombuffer(pcm, dtype="<i2")
    (loud,) = np.nonzero((samples > _LOUD_AMPLITUDE) | (samples < -_LOUD_AMPLITUDE))
    return SampleSpan(int(loud[0]), int(loud[-1])) if loud.size else None


def level_of(pcm: bytes) -> int:
    """Mean level of s16le mono samples as packets tell it (RFC 6464): dB below overload, 127 for silence."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64)
    power = float(np.mean(samples**2)) if samples.size else 0.0
    return min(SILENT_LEVEL, round(10 * math.log10(32_768**2 / power))) if power else SILENT_LEVEL


class SoundLog:
    """Stretches of sound in the order they were heard. Instants are Unix microseconds."""

    __slots__ = ("_first_us", "_last_us")

    def __init__(self) -> None:
        self._first_us: list[int] = []
        self._last_us: list[int] = []

    def add(self, first_us: int, last_us: int) -> None:
        """Note one packet's sound; late packets may overlap the ones before them."""
        self._first_us.append(first_us)
        self._last_us.append(max(last_us, self._last_us[-1]) if self._last_us else last_us)

    @property
    def last_us(self) -> int | None:
        """The last sound so far."""
        return self._last_us[-1] if self._last_us else None

    def first_after(self, instant_us: int) -> int | None:
        """The first sound at or after an instant; the instant itself if a packet's sound spans it."""
        index = bisect_left(self._last_us, instant_us)
        if index == len(self._last_us):
            return None
        return max(self._first_us[index], instant_us)

    def silent_from(self, instant_us: int, *, quiet_ms: int) -> int | None:
        """The last sound of the run of sound at or after an instant.

        A run ends at a pause longer than `quiet_ms`. None if there was no sound; while the newest run goes
        on, its last sound so far.
        """
        index = bisect_left(self._last_us, instant_us)
        if index == len(self._last_us):
            return None
        while index + 1 < len(self._last_us):
            if self._first_us[index + 1] - self._last_us[index] > quiet_ms * 1000:
                break
            index += 1
        return self._last_us[index]
