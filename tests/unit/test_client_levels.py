"""When the client believes it heard something."""

import numpy as np
import pytest

from voxthread.client.levels import SILENT_LEVEL, SampleSpan, SoundLog, level_of, loud_span

pytestmark = pytest.mark.unit

MS = 1_000


def pcm(*samples: int) -> bytes:
    return np.array(samples, dtype="<i2").tobytes()


def test_samples_at_the_threshold_are_silent_and_above_it_loud() -> None:
    # -50 dBFS is an amplitude of 103.6.
    assert loud_span(pcm(0, 103, -103, 0)) is None
    assert loud_span(pcm(0, 104, 0, -104, 0)) == SampleSpan(1, 3)


def test_the_most_negative_sample_is_loud() -> None:
    assert loud_span(pcm(0, -32_768)) == SampleSpan(1, 1)


def test_no_samples_are_silent() -> None:
    assert loud_span(b"") is None
    assert level_of(b"") == SILENT_LEVEL


def test_level_is_told_in_decibels_below_overload() -> None:
    assert level_of(pcm(-32_768, -32_768)) == 0
    assert level_of(pcm(328, -328)) == 40
    assert level_of(pcm(1, *[0] * 1_000_000)) == level_of(pcm(0, 0)) == SILENT_LEVEL


def test_sound_before_the_instant_is_not_found() -> None:
    sounds = SoundLog()
    sounds.add(100 * MS, 110 * MS)

    assert sounds.first_after(111 * MS) is None


def test_sound_across_the_instant_counts_from_it() -> None:
    sounds = SoundLog()
    sounds.add(100 * MS, 110 * MS)

    assert sounds.first_after(105 * MS) == 105 * MS


def test_next_sound_is_found() -> None:
    sounds = SoundLog()
    sounds.add(100 * MS, 110 * MS)
    sounds.add(500 * MS, 519 * MS)

    assert sounds.first_after(111 * MS) == 500 * MS


def test_a_run_of_sound_ends_at_a_pause_longer_than_asked() -> None:
    sounds = SoundLog()
    for start in (100, 120, 140, 300, 1_000):
        sounds.add(start * MS, (start + 15) * MS)

    assert sounds.silent_from(110 * MS, quiet_ms=100) == 155 * MS
    assert sounds.silent_from(110 * MS, quiet_ms=200) == 315 * MS
    assert sounds.silent_from(110 * MS, quiet_ms=800) == 1_015 * MS
    assert sounds.silent_from(2_000 * MS, quiet_ms=100) is None
