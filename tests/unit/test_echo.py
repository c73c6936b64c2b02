"""The agent's own voice told from the caller's, in sounds that are made up: noise in syllables."""

import numpy as np
import pytest
from numpy.typing import NDArray

from voxthread.core.audio import PACKET_MS, SPEECH_RATE_HZ
from voxthread.orchestrator.echo import ECHO_LIKENESS, WINDOW_MS, OwnVoice, likeness

pytestmark = pytest.mark.unit

Samples = NDArray[np.float64]

PER_MS = SPEECH_RATE_HZ // 1000
REPLY_MS = 6_000


class PlainDecoder:
    """A packet is its own s16le; counts them."""

    def __init__(self) -> None:
        self.decoded = 0

    def decode(self, packet: bytes) -> bytes:
        self.decoded += 1
        return packet

    def conceal(self, duration_ms: int, next_packet: bytes | None) -> bytes:
        raise NotImplementedError


def talk(seed: int, duration_ms: int = REPLY_MS) -> Samples:
    """Noise of speech's bandwidth that swells four times a second."""
    noise = np.random.default_rng(seed).standard_normal(duration_ms * PER_MS + 8)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(duration_ms * PER_MS) / SPEECH_RATE_HZ)
    return np.convolve(noise, np.ones(9) / 9, mode="valid") * swell * 6_000


def whistle(duration_ms: int = REPLY_MS) -> Samples:
    return 6_000 * np.sin(2 * np.pi * 440 * np.arange(duration_ms * PER_MS) / SPEECH_RATE_HZ)


def to_pcm(samples: Samples) -> bytes:
    return samples.astype("<i2").tobytes()


def spoken(reply: Samples, *, from_ms: int = 0) -> OwnVoice:
    """A reply that was made from `from_ms` on, in records of 200 ms."""
    voice = OwnVoice()
    pcm, step = to_pcm(reply), PACKET_MS * PER_MS * 2
    packets = [pcm[start : start + step] for start in range(from_ms * PER_MS * 2, len(pcm), step)]
    for first in range(0, len(packets), 10):
        batch = packets[first : first + 10]
        voice.made(batch, from_ms + (first + len(batch)) * PACKET_MS)
    return voice


def microphone(reply: Samples, *, at_ms: int, delay_ms: int, level_db: float = -10) -> Samples:
    """The window that ends when `at_ms` of the reply are played: the reply, late and quieter."""
    late = np.concatenate((np.zeros((delay_ms + WINDOW_MS) * PER_MS), reply))
    return late[at_ms * PER_MS :][: WINDOW_MS * PER_MS] * 10 ** (level_db / 20)


def is_echo(voice: OwnVoice, heard: Samples, *, played_ms: int, since_ms: int = 0) -> bool:
    voice.played(played_ms, 10_000)
    return voice.is_in(to_pcm(heard), 10_000 + since_ms, PlainDecoder())


@pytest.mark.parametrize("level_db", [-10, -20])
@pytest.mark.parametrize("delay_ms", [0, 67, 400, 1_300])
@pytest.mark.parametrize("report_age_ms", [0, 200])
def test_reply_playing_its_echo_is_known_however_late(
    level_db: float, delay_ms: int, report_age_ms: int
) -> None:
    reply = talk(1)
    heard = microphone(reply, at_ms=3_000, delay_ms=delay_ms, level_db=level_db)
    assert is_echo(spoken(reply), heard, played_ms=3_000 - report_age_ms)


def test_reply_just_begun_its_echo_is_known_by_its_first_sounds() -> None:
    reply = talk(1, 2_000)
    assert is_echo(spoken(reply), microphone(reply, at_ms=220, delay_ms=80), played_ms=220)


def test_reply_playing_somebody_else_is_no_echo() -> None:
    reply = talk(1)
    assert not any(is_echo(spoken(reply), talk(seed, WINDOW_MS), played_ms=3_000) for seed in range(2, 30))


def test_reply_playing_speech_over_its_echo_is_no_echo_once_it_fills_half_the_window() -> None:
    reply = talk(1)
    heard = microphone(reply, at_ms=3_000, delay_ms=100)
    heard[len(heard) // 2 :] += talk(2, WINDOW_MS // 2)
    assert not is_echo(spoken(reply), heard, played_ms=3_000)


def test_reply_that_whistles_a_caller_who_whistles_is_no_echo() -> None:
    assert not is_echo(spoken(whistle()), whistle(WINDOW_MS), played_ms=3_000)


def test_reply_over_for_long_nothing_is_an_echo() -> None:
    reply = talk(1)
    heard = microphone(reply, at_ms=REPLY_MS, delay_ms=100)
    assert is_echo(spoken(reply), heard, played_ms=REPLY_MS, since_ms=400)
    assert not is_echo(spoken(reply), heard, played_ms=REPLY_MS, since_ms=2_000)


def test_reply_not_reported_as_played_nothing_is_an_echo() -> None:
    reply = talk(1)
    heard = to_pcm(microphone(reply, at_ms=3_000, delay_ms=100))
    assert not spoken(reply).is_in(heard, 10_000, PlainDecoder())


def test_reply_of_an_owner_that_is_gone_only_what_was_made_again_is_known() -> None:
    reply = talk(1)
    before, behind = (microphone(reply, at_ms=at_ms, delay_ms=100) for at_ms in (2_000, 4_000))
    assert not is_echo(spoken(reply, from_ms=3_000), before, played_ms=2_000)
    assert is_echo(spoken(reply, from_ms=3_000), behind, played_ms=4_000)


def test_asked_again_each_packet_is_decoded_once_and_what_is_long_past_never() -> None:
    reply, decoder = talk(1, 20_000), PlainDecoder()
    voice = spoken(reply)
    for played_ms in (18_000, 18_100, 18_200):
        voice.played(played_ms, 30_000)
        heard = microphone(reply, at_ms=played_ms, delay_ms=100)
        assert voice.is_in(to_pcm(heard), 30_000, decoder)
    assert decoder.decoded <= 120


def test_silence_is_like_nothing() -> None:
    reply, silence = to_pcm(talk(1, 1_000)), bytes(WINDOW_MS * PER_MS * 2)
    assert likeness(silence, reply) == likeness(reply[: len(silence)], bytes(len(reply))) == 0
    assert likeness(reply, reply[: len(silence)]) == 0
    assert likeness(reply[: len(silence)], reply) > ECHO_LIKENESS
