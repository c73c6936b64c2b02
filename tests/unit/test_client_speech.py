"""What the client can say: audio files of any shape, encoded once."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxthread.client.failures import SpeechError
from voxthread.client.mouth import Spoken
from voxthread.client.questions import QUESTIONS
from voxthread.client.speech import CALL_RATE_HZ, load_wav, speak
from voxthread.client.utterance import PACKET_SAMPLES, encode_utterance
from voxthread.core.audio import PcmFrame

pytestmark = pytest.mark.unit


def tone(rate_hz: int, seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(rate_hz * seconds)) / rate_hz)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_of_any_rate_and_channels_becomes_mono_of_the_call(
    tmp_path: Path, rate_hz: int, channels: int
) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.stack([tone(rate_hz, 0.5)] * channels, axis=1), rate_hz)

    speech = load_wav(path)

    samples = np.frombuffer(speech.pcm, dtype="<i2")
    assert speech.rate_hz == CALL_RATE_HZ
    assert speech.duration_ms == pytest.approx(500, abs=1)
    assert samples.max() == pytest.approx(0.3 * 32_768, rel=0.1)


@pytest.mark.parametrize("content", [b"", b"not audio at all"])
def test_a_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)

    with pytest.raises(SpeechError, match="not an audio file"):
        load_wav(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match=r"absent\.wav"):
        load_wav(tmp_path / "absent.wav")


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 16_000)

    with pytest.raises(SpeechError, match="no audio"):
        load_wav(path)


@pytest.mark.anyio
async def test_an_empty_text_is_refused() -> None:
    with pytest.raises(SpeechError, match="no text"):
        await speak("  ")


def test_an_utterance_knows_where_its_sound_is_whatever_its_rate() -> None:
    silence, sound = np.zeros(1_600), tone(16_000, 0.5)
    pcm = (np.concatenate([silence, sound, silence]) * 32_767).astype("<i2").tobytes()

    utterance = encode_utterance(PcmFrame(pcm=pcm, rate_hz=16_000))

    assert utterance.sound is not None
    assert utterance.sound.first / CALL_RATE_HZ == pytest.approx(0.1, abs=0.002)
    assert utterance.sound.last / CALL_RATE_HZ == pytest.approx(0.6, abs=0.002)
    assert len(utterance.packets) == 700 // 20 + 2


def test_samples_are_spoken_as_much_before_their_packet_is_sent_as_they_lie_before_its_end() -> None:
    samples = np.zeros(3 * PACKET_SAMPLES, dtype="<i2")
    samples[0] = 1_000
    samples[2 * PACKET_SAMPLES - 1] = 1_000
    spoken = Spoken(encode_utterance(PcmFrame(pcm=samples.tobytes(), rate_hz=CALL_RATE_HZ)))

    assert spoken.first_sound_us is None
    spoken.sent_us += [1_000_000, 1_020_500]

    assert spoken.first_sound_us == pytest.approx(980_000, abs=100)
    assert spoken.last_sound_us == 1_020_500


def test_the_questions_are_of_the_length_people_ask() -> None:
    assert len(QUESTIONS) == 12
    assert all(4 <= len(question.split()) <= 14 for question in QUESTIONS)
