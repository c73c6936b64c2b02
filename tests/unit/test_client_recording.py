"""Where audio is placed on the timeline of a recording."""

import numpy as np
import pytest

from voxthread.client.recording import Track, mix
from voxthread.client.speech import CALL_RATE_HZ

pytestmark = pytest.mark.unit

MS = 1_000
SAMPLES_PER_MS = CALL_RATE_HZ // 1000
PACKET = np.full(20 * SAMPLES_PER_MS, 1_000, dtype="<i2").tobytes()


def test_packets_of_a_running_stream_are_joined_in_spite_of_jitter() -> None:
    track = Track()
    track.add(PACKET, 100 * MS, follows=False)
    track.add(PACKET, 135 * MS, follows=True)
    track.add(PACKET, 136 * MS, follows=True)

    assert [at_us for at_us, _ in track.parts] == [100 * MS, 120 * MS, 140 * MS]


def test_a_packet_far_too_late_leaves_a_gap() -> None:
    track = Track()
    track.add(PACKET, 100 * MS, follows=False)
    track.add(PACKET, 300 * MS, follows=True)

    assert [at_us for at_us, _ in track.parts] == [100 * MS, 300 * MS]


def test_packets_never_overlap() -> None:
    track = Track()
    track.add(PACKET, 100 * MS, follows=False)
    track.add(PACKET, 101 * MS, follows=False)

    assert [at_us for at_us, _ in track.parts] == [100 * MS, 120 * MS]


def test_mix_places_both_sides_from_the_earlier_one() -> None:
    caller, agent = Track(), Track()
    caller.add(PACKET, 5_000 * MS, follows=False)
    agent.add(PACKET, 5_100 * MS, follows=False)

    stereo = mix(caller, agent)

    assert stereo.shape == (120 * SAMPLES_PER_MS, 2)
    assert np.flatnonzero(stereo[:, 0])[[0, -1]].tolist() == [0, 20 * SAMPLES_PER_MS - 1]
    assert np.flatnonzero(stereo[:, 1])[0] == 100 * SAMPLES_PER_MS


def test_mix_of_nothing_is_empty() -> None:
    assert mix(Track(), Track()).shape == (0, 2)
