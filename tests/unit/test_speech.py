"""Speech segmentation in audio time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.inputs import SpeechStarted, SpeechStopped
from voxthread.core.speech import SpeechPolicy, SpeechSegmenter

pytestmark = pytest.mark.unit

FRAME_MS = 32
LOUD, FAINT, QUIET = 0.9, 0.4, 0.1


def edges(probabilities: list[float]) -> list[tuple[int, SpeechStarted | SpeechStopped]]:
    segmenter = SpeechSegmenter(SpeechPolicy())
    found = [(n, segmenter.feed(probability, FRAME_MS)) for n, probability in enumerate(probabilities)]
    return [(n, edge) for n, edge in found if edge is not None]


def test_silence_long_enough_speech_starts_at_the_third_frame() -> None:
    assert edges([QUIET, LOUD, LOUD, LOUD]) == [(3, SpeechStarted(speech_ms=96))]


def test_silence_click_starts_nothing() -> None:
    assert edges([LOUD, LOUD, QUIET, LOUD, LOUD, QUIET]) == []


def test_speech_short_pause_does_not_stop() -> None:
    assert len(edges([LOUD] * 3 + [QUIET] * 5 + [LOUD] * 3)) == 1


def test_speech_long_pause_stops_after_it() -> None:
    assert edges([LOUD] * 3 + [QUIET] * 6)[-1] == (8, SpeechStopped(silence_ms=192))


def test_speech_faint_frames_keep_it_but_do_not_start_it() -> None:
    assert edges([FAINT] * 20) == []
    assert len(edges([LOUD] * 3 + [FAINT] * 20)) == 1


@given(st.lists(st.floats(0, 1), max_size=300))
def test_any_probabilities_starts_and_stops_alternate(probabilities: list[float]) -> None:
    found = [type(edge) for _, edge in edges(probabilities)]
    assert found == [SpeechStarted, SpeechStopped] * (len(found) // 2) + [SpeechStarted] * (len(found) % 2)
