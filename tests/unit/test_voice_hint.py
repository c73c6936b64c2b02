"""A voice over the agent is noticed by its level, within three packets, and no room is taken for one."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.voice_hint import LOUD_PACKETS, QUIET_PACKETS, VoiceHint

pytestmark = pytest.mark.unit

levels = st.lists(st.integers(0, 127), max_size=400)


def hints(hint: VoiceHint, heard: list[int]) -> list[int]:
    """After how many packets it hinted at a voice."""
    return [index for index, level in enumerate(heard, start=1) if hint.heard(level)]


@pytest.mark.parametrize("room", [127, 70, 60, 45])
def test_voice_in_a_quiet_room_is_noticed_with_its_third_packet(room: int) -> None:
    hint = VoiceHint()
    assert hints(hint, [room] * 200) == []
    assert hints(hint, [25] * 5) == [LOUD_PACKETS]


@pytest.mark.parametrize("heard", [[25, 25, 60] * 20, [60, 25] * 30, [45] * 100])
def test_clicks_and_what_is_not_clearly_loud_are_no_voice(heard: list[int]) -> None:
    assert hints(VoiceHint(), heard) == []


def test_voice_that_goes_on_is_noticed_once() -> None:
    hint = VoiceHint()
    assert len(hints(hint, [60] * 20 + ([25] * 8 + [60] * (QUIET_PACKETS - 1)) * 5)) == 1


def test_voice_after_silence_is_noticed_again() -> None:
    assert len(hints(VoiceHint(), ([25] * 5 + [60] * QUIET_PACKETS) * 3)) == 3


def test_noise_that_stays_is_the_rooms() -> None:
    seeded = random.Random(6)
    hint = VoiceHint()
    noise = [35 + seeded.randint(-2, 2) for _ in range(3_000)]
    assert len(hints(hint, noise)) == 1
    assert hints(hint, [35, 15, 15, 15]) == [4]


@given(levels)
def test_no_voice_is_told_before_its_third_loud_packet_or_twice_without_a_pause(heard: list[int]) -> None:
    told = hints(VoiceHint(), heard)
    assert all(after >= LOUD_PACKETS for after in told)
    assert all(later - sooner >= QUIET_PACKETS + LOUD_PACKETS for sooner, later in itertools.pairwise(told))
