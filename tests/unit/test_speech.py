"""Speech segmentation in audio time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.inputs import SpeechContinued, SpeechPaused, SpeechStarted, SpeechStopped
from voxthread.core.speech import Edge, SpeechPolicy, SpeechSegmenter

pytestmark = pytest.mark.unit

FRAME_MS = 32
LOUD, FAINT, QUIET = 0.9, 0.4, 0.1


def edges(probabilities: list[float]) -> list[tuple[int, Edge]]:
    segmenter = SpeechSegmenter(SpeechPolicy())
    found = [(n, segmenter.feed(probability, FRAME_MS)) for n, probability in enumerate(probabilities)]
    return [(n, edge) for n, edge in found if edge is not None]


def test_silence_long_enough_speech_starts_at_the_third_frame() -> None:
    assert edges([QUIET, LOUD, LOUD, LOUD]) == [(3, SpeechStarted(speech_ms=96))]


def test_silence_click_starts_nothing() -> None:
    assert edges([LOUD, LOUD, QUIET, LOUD, LOUD, QUIET]) == []


def test_speech_short_pause_is_told_and_does_not_stop() -> None:
    assert edges([LOUD] * 3 + [QUIET] * 5 + [LOUD] * 3)[1:] == [
        (5, SpeechPaused(silence_ms=96)),
        (8, SpeechContinued()),
    ]


def test_speech_assumed_paused_stops_or_continues_as_if_heard() -> None:
    segmenter = SpeechSegmenter(SpeechPolicy())
    segmenter.assume(is_speaking=True, is_paused=True)
    assert [segmenter.feed(QUIET, FRAME_MS) for _ in range(3)][-1] == SpeechStopped(silence_ms=192)
    segmenter.assume(is_speaking=True, is_paused=True)
    assert segmenter.feed(LOUD, FRAME_MS) == SpeechContinued()


def test_speech_long_pause_stops_after_it() -> None:
    assert edges([LOUD] * 3 + [QUIET] * 6)[-1] == (8, SpeechStopped(silence_ms=192))


def test_speech_faint_frames_keep_it_but_do_not_start_it() -> None:
    assert edges([FAINT] * 20) == []
    assert len(edges([LOUD] * 3 + [FAINT] * 20)) == 1


_FOLLOWS: dict[type[Edge] | None, set[type[Edge]]] = {
    None: {SpeechStarted},
    SpeechStarted: {SpeechPaused},
    SpeechPaused: {SpeechContinued, SpeechStopped},
    SpeechContinued: {SpeechPaused},
    SpeechStopped: {SpeechStarted},
}


@given(st.lists(st.floats(0, 1), max_size=300))
def test_any_probabilities_edges_follow_each_other(probabilities: list[float]) -> None:
    before: type[Edge] | None = None
    for _, edge in edges(probabilities):
        assert type(edge) in _FOLLOWS[before]
        before = type(edge)
