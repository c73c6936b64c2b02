"""How much silence was added to a reply, against the same reply undisturbed. Pure.

The two have the same words in the same voice, so the same pauses at the same places. A pause that the
undisturbed reply does not have there, or has shorter, is added.
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
    after_ms: float
    """So much sound lies before it, which silence added earlier does not change."""
    ms: float


def sound_ms(sounds: Sequence[Sound]) -> float:
    """Of all runs together."""
    return sum(sound.last_ms - sound.first_ms for sound in sounds)


def added_silence_ms(undisturbed: Sequence[Sound], disturbed: Sequence[Sound]) -> float:
    """The longest silence that was added, 0 if none was."""
    known, found = _pauses(undisturbed), _pauses(disturbed)
    natural = _matched(known, found)
    added = (pause.ms - (known[natural[n]].ms if n in natural else 0) for n, pause in enumerate(found))
    return max([0.0, *added])


def _pauses(sounds: Sequence[Sound]) -> list[_Pause]:
    pauses, heard_ms = [], 0.0
    for before, after in pairwise(sounds):
        heard_ms += before.last_ms - before.first_ms
        pauses.append(_Pause(heard_ms, after.first_ms - before.last_ms))
    return pauses


def _matched(known: Sequence[_Pause], found: Sequence[_Pause]) -> dict[int, int]:
    """Which of `found` is which of `known`, by index; the nearest pairs first: a hole may be near a pause."""
    distances = (
        (abs(one.after_ms - other.after_ms), n, k)
        for n, one in enumerate(found)
        for k, other in enumerate(known)
    )
    matched: dict[int, int] = {}
    for distance, n, k in sorted(distances):
        if distance <= _NEAR_MS and n not in matched and k not in matched.values():
            matched[n] = k
    return matched
