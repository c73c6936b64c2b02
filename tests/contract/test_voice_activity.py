"""Every voice activity detector: speech is likely, silence is not, one session knows nothing of another."""

from collections.abc import Callable

import numpy as np
import pytest

from spoken import FRAME_SAMPLES, SkipLoudly, bundled_models, frame_of, frames_of, need_espeak, say
from voxthread.engines.vad.silero import SileroModel
from voxthread.orchestrator.ports import VoiceActivity
from voxthread.testing.listening import EnergyVoiceActivity

pytestmark = pytest.mark.contract

SPEECH = 0.5
SENTENCE = "I would like to book a double room for two nights."

Open = Callable[[], VoiceActivity]


@pytest.fixture(scope="module")
def silero(skip_loudly: SkipLoudly) -> SileroModel:
    return SileroModel(bundled_models(skip_loudly).silero)


@pytest.fixture(params=["silero", "energy"])
def open_voice_activity(request: pytest.FixtureRequest) -> Open:
    if request.param == "energy":
        return EnergyVoiceActivity
    model: SileroModel = request.getfixturevalue("silero")
    return model.open


def probabilities(detector: VoiceActivity, samples: np.ndarray) -> list[float]:
    return [detector.probability(frame) for frame in frames_of(samples)]


def test_speech_is_likely_in_most_frames(open_voice_activity: Open, skip_loudly: SkipLoudly) -> None:
    need_espeak(skip_loudly)
    found = probabilities(open_voice_activity(), say(SENTENCE))
    assert sum(probability > SPEECH for probability in found) > 0.6 * len(found)


def test_silence_is_unlikely_in_every_frame(open_voice_activity: Open) -> None:
    found = probabilities(open_voice_activity(), np.zeros(5 * 16_000))
    assert max(found) < SPEECH
    assert all(0 <= probability <= 1 for probability in found)


def test_sessions_fed_in_turn_hear_what_each_would_alone(
    open_voice_activity: Open, skip_loudly: SkipLoudly
) -> None:
    need_espeak(skip_loudly)
    alone = probabilities(open_voice_activity(), say(SENTENCE))
    speaking, silent = open_voice_activity(), open_voice_activity()
    beside = []
    for frame in frames_of(say(SENTENCE)):
        beside.append(speaking.probability(frame))
        silent.probability(frame_of(np.zeros(FRAME_SAMPLES)))
    assert beside == alone


def test_a_frame_takes_512_samples(open_voice_activity: Open) -> None:
    assert open_voice_activity().frame_samples == FRAME_SAMPLES


@pytest.mark.parametrize(("samples", "rate_hz"), [(160, 16_000), (0, 16_000), (FRAME_SAMPLES, 8_000)])
def test_a_frame_of_another_size_or_rate_is_refused(
    open_voice_activity: Open, samples: int, rate_hz: int
) -> None:
    with pytest.raises(ValueError, match="16 kHz"):
        open_voice_activity().probability(frame_of(np.zeros(samples), rate_hz=rate_hz))


@pytest.mark.parametrize("level", [0.003, 0.03, 0.2])
def test_silero_noise_is_not_taken_for_speech(silero: SileroModel, level: float) -> None:
    noise = np.random.default_rng(1).normal(0, level, 3 * 16_000)
    found = probabilities(silero.open(), noise)
    assert sum(probability > SPEECH for probability in found) < 3


def test_silero_speech_after_silence_is_heard_as_by_one_just_opened(
    silero: SileroModel, skip_loudly: SkipLoudly
) -> None:
    need_espeak(skip_loudly)
    faint = np.random.default_rng(1).uniform(-0.002, 0.002, 10 * 16_000)
    detector = silero.open()
    probabilities(detector, say(SENTENCE))
    assert set(probabilities(detector, faint)[20:]) == {0.0}, "without asking the network"
    speech = say(SENTENCE)
    speech = speech[np.argmax(np.abs(speech) > 0.01) :]
    assert probabilities(detector, speech) == probabilities(silero.open(), speech)


def test_silero_speech_after_music_is_noticed_as_soon_as_after_silence(
    silero: SileroModel, skip_loudly: SkipLoudly
) -> None:
    need_espeak(skip_loudly)
    speech = say(SENTENCE, "en-us")
    onset_frames = []
    for before in (np.zeros(20 * 16_000), music(20)):
        detector = silero.open()
        probabilities(detector, before)
        found = probabilities(detector, speech)
        onset_frames.append(next(i for i, probability in enumerate(found) if probability > SPEECH))
    after_silence, after_music = onset_frames
    assert after_music <= after_silence + 3


def music(seconds: int) -> np.ndarray:
    """A plucked melody over a beat; without resets, speech after it is noticed half a second late."""
    rng = np.random.default_rng(3)
    mixed = np.zeros((seconds + 2) * 16_000)
    time_s = np.arange(8_000) / 16_000
    for start in range(0, seconds * 16_000, 4_000):
        for _ in range(3):
            pitch_hz = 110 * 2 ** (rng.integers(0, 30) / 12)
            partials = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 7))
            mixed[start : start + 8_000] += 0.1 * partials * np.exp(-2 * time_s)
        mixed[start : start + 800] += rng.normal(0, 0.06, 800) * np.exp(-np.arange(800) / 150)
    return mixed[: seconds * 16_000]
