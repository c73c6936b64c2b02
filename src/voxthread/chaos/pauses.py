"""How much silence was added to a reply, against the same reply undisturbed. Pure.

The two have the same words in the same voice, so the same pauses at the same places. A pause that the
undisturbed reply does not have there, or has shorter, is added; what comes behind it is as much later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST_MS = 60
"""A shorter silence is no pause: within a word there are such, and a jitter buffer hides them."""

_NEAR_MS = 150
"""A pause so near to where it should be is that pause."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A run of sound without a pause, in milliseconds since the reply's first sound."""

    first_ms: float
    last_ms: float


@dataclass(frozen=True, slots=True)
class _Pause:
    at_ms: float
    ms: float


def sound_ms(sounds: Sequence[Sound]) -> float:
    """Of all runs together."""
    return sum(sound.last_ms - sound.first_ms for sound in sounds)


def added_silence_ms(undisturbed: Sequence[Sound], disturbed: Sequence[Sound]) -> float:
    """The longest silence that was added, 0 if none was."""
    known = _pauses(undisturbed)
    longest = later = 0.0
    for pause in _pauses(disturbed):
        natural = _nearest(known, pause.at_ms - later)
        added = pause.ms if natural is None else pause.ms - natural.ms
        if natural is not None:
            known.remove(natural)
        later += added
        longest = max(longest, added)
    return longest


def _pauses(sounds: Sequence[Sound]) -> list[_Pause]:
    return [_Pause(before.last_ms, after.first_ms - before.last_ms) for before, after in pairwise(sounds)]


def _nearest(pauses: Sequence[_Pause], at_ms: float) -> _Pause | None:
    near = [pause for pause in pauses if abs(pause.at_ms - at_ms) <= _NEAR_MS]
    return min(near, key=lambda pause: abs(pause.at_ms - at_ms), default=None)
