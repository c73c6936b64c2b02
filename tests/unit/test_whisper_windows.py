"""How much audio Whisper is given, and where long audio is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.audio import PcmFrame
from voxthread.core.failures import TranscriptionError
from voxthread.engines.stt.utterance import UtteranceAudio
from voxthread.engines.stt.windows import (
    FULL_WINDOW_SAMPLES,
    LONGEST_PIECE_SAMPLES,
    quietest_cut,
    short_window_samples,
)

pytestmark = pytest.mark.unit

SECOND = 16_000


@pytest.mark.parametrize(
    ("speech_s", "window_s"), [(0.1, 5), (4, 5), (4.5, 5.5), (10, 11), (28.9, 29.9), (29, 30), (30, 30)]
)
def test_a_window_is_the_speech_and_a_second_between_5_and_30(speech_s: float, window_s: float) -> None:
    assert short_window_samples(int(speech_s * SECOND)) == int(window_s * SECOND)


@given(speech=st.integers(min_value=0, max_value=LONGEST_PIECE_SAMPLES))
def test_a_window_holds_the_speech_in_whole_encoder_steps(speech: int) -> None:
    window = short_window_samples(speech)
    assert window % 320 == 0
    assert speech + SECOND <= window <= FULL_WINDOW_SAMPLES


@pytest.mark.parametrize("pause_s", [22.2, 24.0, 26.7])
def test_long_audio_is_cut_in_its_pause(pause_s: float) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * SECOND).astype(np.float32)
    start = int(pause_s * SECOND)
    samples[start : start + 4_800] = 0
    assert start <= quietest_cut(samples) <= start + 4_800


def test_audio_without_a_pause_is_cut_all_the_same() -> None:
    samples = np.full(28 * SECOND, 0.1, np.float32)
    assert 22 * SECOND <= quietest_cut(samples) <= 28 * SECOND


@given(frames=st.lists(st.integers(min_value=0, max_value=40 * SECOND), max_size=6))
def test_an_utterance_keeps_a_bounded_rest_and_loses_no_sample(frames: list[int]) -> None:
    utterance = UtteranceAudio()
    taken = 0
    for samples in frames:
        utterance.append(PcmFrame(pcm=bytes(2 * samples), rate_hz=SECOND))
        while utterance.is_full:
            piece = utterance.take_piece()
            assert len(piece) <= LONGEST_PIECE_SAMPLES
            taken += len(piece)
        assert len(utterance.samples) < LONGEST_PIECE_SAMPLES
    assert taken + len(utterance.samples) == utterance.total_samples == sum(frames)


def test_settled_texts_come_before_the_rest() -> None:
    utterance = UtteranceAudio()
    for text in ("One two.", "", "Three."):
        utterance.settle(text)
    assert utterance.whole_text("Four.") == "One two. Three. Four."
    assert utterance.whole_text("") == "One two. Three."


def test_an_utterance_of_another_rate_is_refused() -> None:
    with pytest.raises(TranscriptionError, match="16 kHz"):
        UtteranceAudio().append(PcmFrame(pcm=b"\0\0", rate_hz=8_000))
