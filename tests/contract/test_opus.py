"""Opus both ways. There is no fake: the real codec takes 0.15 ms a packet."""

import itertools
import sys
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spoken import frame_of
from voxthread.app.engine_room import open_engines
from voxthread.config import Config
from voxthread.core.audio import PACKET_MS, SPEECH_RATE_HZ, PcmFrame
from voxthread.core.encoding import BAD, CONGESTED, LOSSY, STEADY, Encoding
from voxthread.core.failures import MediaError
from voxthread.engines.codec import libopus
from voxthread.engines.codec.libopus import NativeEncoder
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.engines.features import log_mel

pytestmark = pytest.mark.contract

Signal = NDArray[np.float64]

LIKENESS = 0.95
"""Another pitch, or the same signal backwards, is under 0.89."""

VOICED_BANDS = 40
"""Mel bands up to 1.6 kHz, where the test signal is."""

CODEC_DELAY_FRAMES = 3
"""Of 10 ms: at most so much later the decoded voice comes."""


def voice_like(seconds: float, rate_hz: int) -> Signal:
    """A buzz on a gliding pitch with syllables in it: enough like speech for the voice codec."""
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (120 * time_s + 8 * np.sin(2 * np.pi * time_s))
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    return 0.12 * buzz * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s))


def encode(
    signal: Signal, *, rate_hz: int, frame_ms: int = 100, encoder: OpusEncoder | None = None
) -> list[bytes]:
    encoder = encoder or OpusEncoder()
    step = rate_hz * frame_ms // 1000
    packets: list[bytes] = []
    for start in range(0, len(signal), step):
        packets += encoder.encode(frame_of(signal[start : start + step], rate_hz=rate_hz))
    return packets + encoder.finish()


def decode(packets: Iterable[bytes]) -> Signal:
    decoder = OpusDecoder()
    return samples_of(b"".join(decoder.decode(packet) for packet in packets))


def samples_of(pcm: bytes) -> Signal:
    return np.frombuffer(pcm, "<i2") / 32_768


def similarity(heard: Signal, said: Signal) -> float:
    """How alike the spectra are over time, 1 being the same; the codec keeps no phases."""
    heard_bands, said_bands = (log_mel(signal.astype(np.float32))[:VOICED_BANDS] for signal in (heard, said))
    frames = min(heard_bands.shape[1], said_bands.shape[1]) - CODEC_DELAY_FRAMES
    return max(
        float(np.corrcoef(heard_bands[:, late : late + frames].ravel(), said_bands[:, :frames].ravel())[0, 1])
        for late in range(CODEC_DELAY_FRAMES)
    )


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("frame_ms", [10, 32, 278])
def test_a_reply_of_any_rate_and_frame_size_arrives_whole(rate_hz: int, frame_ms: int) -> None:
    packets = encode(voice_like(1.0, rate_hz), rate_hz=rate_hz, frame_ms=frame_ms)
    heard = decode(packets)
    assert len(packets) in (50, 51)
    assert len(heard) == len(packets) * SPEECH_RATE_HZ * PACKET_MS // 1000
    assert similarity(heard, voice_like(1.0, SPEECH_RATE_HZ)) > LIKENESS


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_a_client_encodes_at_its_own_rate(rate_hz: int) -> None:
    encoder = OpusEncoder(rate_hz=rate_hz, bitrate_bps=32_000)
    packets = encode(voice_like(1.0, rate_hz), rate_hz=rate_hz, frame_ms=PACKET_MS, encoder=encoder)
    assert len(packets) == 50
    assert similarity(decode(packets), voice_like(1.0, SPEECH_RATE_HZ)) > LIKENESS


def test_frames_at_the_encoders_rate_give_their_packets_at_once() -> None:
    encoder = OpusEncoder()
    frame = frame_of(voice_like(0.02, 24_000), rate_hz=24_000)
    assert [len(encoder.encode(frame)) for _ in range(5)] == [1] * 5


def test_a_rest_waits_for_more_and_is_padded_at_the_end() -> None:
    encoder = OpusEncoder()
    half = frame_of(voice_like(0.01, 24_000), rate_hz=24_000)
    assert [len(encoder.encode(half)) for _ in range(3)] == [0, 1, 0]
    assert len(encoder.finish()) == 1
    assert encoder.finish() == []


def test_an_encoder_serves_another_reply_of_another_rate_after_finish() -> None:
    encoder = OpusEncoder()
    for rate_hz in (22_050, 16_000):
        packets = encode(voice_like(1.0, rate_hz), rate_hz=rate_hz, encoder=encoder)
        assert len(packets) in (50, 51)


def test_a_rate_that_changes_inside_a_reply_loses_nothing() -> None:
    encoder = OpusEncoder()
    packets = encoder.encode(frame_of(voice_like(0.5, 22_050), rate_hz=22_050))
    packets += encoder.encode(frame_of(voice_like(0.5, 16_000), rate_hz=16_000))
    packets += encoder.finish()
    assert len(packets) in (50, 51)


@pytest.mark.parametrize("packet_ms", [10, 20, 40, 60, 80, 100, 120])
def test_a_packet_of_any_duration_is_decoded_whole(packet_ms: int) -> None:
    encoder = NativeEncoder(48_000, bitrate_bps=32_000, complexity=5, expected_loss_percent=0)
    packet = encoder.encode(frame_of(voice_like(packet_ms / 1000, 48_000), rate_hz=48_000).pcm)
    decoder = OpusDecoder()
    assert len(decoder.decode(packet)) == packet_ms * 32
    assert len(decoder.decode(b"")) == packet_ms * 32


@pytest.mark.parametrize("duration_ms", [0, 1, 7, 20, 60, 119, 120, 121, 500])
@pytest.mark.parametrize("has_next", [True, False])
def test_a_hole_is_filled_to_the_sample(duration_ms: int, has_next: bool) -> None:
    packets = encode(voice_like(0.2, 24_000), rate_hz=24_000)
    decoder = OpusDecoder()
    for packet in packets[:5]:
        decoder.decode(packet)
    assert len(decoder.conceal(duration_ms, packets[6] if has_next else None)) == duration_ms * 32


@pytest.mark.parametrize("holes_ms", [[20] * 5, [100], [60, 40]])
@pytest.mark.parametrize("has_next", [True, False])
def test_a_long_hole_is_silent_between_what_is_extrapolated_and_what_is_restored(
    holes_ms: list[int], has_next: bool
) -> None:
    packets = encode(voice_like(0.4, 24_000), rate_hz=24_000)
    decoder = OpusDecoder()
    for packet in packets[:10]:
        decoder.decode(packet)
    following = [None] * (len(holes_ms) - 1) + [packets[15] if has_next else None]
    filled = [decoder.conceal(*hole) for hole in zip(holes_ms, following, strict=True)]
    loud = [bool(piece.any()) for piece in np.split(samples_of(b"".join(filled)), 5)]
    assert loud == [True, False, False, False, has_next]


def test_each_hole_is_extrapolated_anew() -> None:
    packets = encode(voice_like(0.4, 24_000), rate_hz=24_000)
    decoder = OpusDecoder()
    for packet in packets[:10]:
        decoder.decode(packet)
        assert samples_of(decoder.conceal(40, None)).any()


def test_redundancy_rebuilds_a_lost_packet_better_than_a_guess() -> None:
    packets = encode(voice_like(3.0, 24_000), rate_hz=24_000)
    whole = decode(packets)
    errors = [float(np.mean((with_every_fifth_lost(packets, fec) - whole) ** 2)) for fec in (True, False)]
    rebuilt, guessed = errors
    assert rebuilt < guessed / 3


def with_every_fifth_lost(packets: list[bytes], fec: bool) -> Signal:
    decoder = OpusDecoder()
    pcm = bytearray()
    for i, packet in enumerate(packets):
        if i % 5 == 3 and i + 1 < len(packets):
            pcm += decoder.conceal(PACKET_MS, packets[i + 1] if fec else None)
        else:
            pcm += decoder.decode(packet)
    return samples_of(bytes(pcm))


@given(packets=st.lists(st.binary(max_size=300), max_size=8))
def test_no_bytes_whatever_make_the_decoder_fail(packets: list[bytes]) -> None:
    decoder = OpusDecoder()
    for packet in packets:
        assert len(decoder.decode(packet)) % 2 == 0
        assert len(decoder.conceal(20, packet)) == 640


def test_a_corrupt_packet_is_concealed_for_as_long_as_the_last_one() -> None:
    packets = encode(voice_like(0.2, 24_000), rate_hz=24_000)
    decoder = OpusDecoder()
    decoder.decode(packets[0])
    assert len(decoder.decode(b"\xff\xff")) == PACKET_MS * 32


@given(cuts=st.lists(st.integers(min_value=0, max_value=22_050), max_size=12))
def test_where_a_reply_is_cut_into_frames_does_not_change_it(cuts: list[int]) -> None:
    signal = voice_like(1.0, 22_050)
    edges = [0, *sorted(cuts), len(signal)]
    encoder = OpusEncoder()
    packets: list[bytes] = []
    for start, end in itertools.pairwise(edges):
        packets += encoder.encode(frame_of(signal[start:end], rate_hz=22_050))
    assert abs(len(packets + encoder.finish()) - 50) <= 1


def test_an_empty_frame_gives_nothing() -> None:
    encoder = OpusEncoder()
    assert encoder.encode(PcmFrame(pcm=b"", rate_hz=22_050)) == []
    assert encoder.finish() == []


@pytest.mark.parametrize("encoding", [STEADY, LOSSY, BAD, CONGESTED])
def test_reply_that_is_tuned_in_its_middle_stays_whole_and_the_same_length(encoding: Encoding) -> None:
    encoder = OpusEncoder()
    first = encode(voice_like(1.0, 24_000), rate_hz=24_000, encoder=encoder)
    encoder.tune(encoding)
    packets = first + encode(voice_like(1.0, 24_000), rate_hz=24_000, encoder=encoder)
    heard = decode(packets)
    assert len(packets) == 100
    assert len(heard) == 100 * 320
    assert similarity(heard[50 * 320 :], voice_like(1.0, SPEECH_RATE_HZ)) > LIKENESS
    bits_per_s = sum(map(len, packets[60:])) * 8 / (len(packets[60:]) * PACKET_MS / 1000)
    assert bits_per_s == pytest.approx(encoding.bitrate_bps, rel=0.35)


@pytest.mark.parametrize("encoding", [STEADY, LOSSY, BAD, CONGESTED])
def test_whatever_the_line_packets_of_a_voice_bring_the_one_before_along(encoding: Encoding) -> None:
    encoder = OpusEncoder()
    encoder.tune(encoding)
    packets = encode(voice_like(2.0, 24_000), rate_hz=24_000, encoder=encoder)
    has_redundancy = libopus.load_libopus()["opus_packet_has_lbrr"]
    redundant = sum(has_redundancy(packet, len(packet)) for packet in packets)
    assert redundant > 0.7 * len(packets)  # none where it is faint


def test_a_machine_without_the_wheel_uses_its_own_libopus(monkeypatch: pytest.MonkeyPatch) -> None:
    found = libopus.load_libopus()._name
    monkeypatch.setitem(sys.modules, "opuslib_next.api", None)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    monkeypatch.setattr(libopus, "_SYSTEM_NAMES", ("no-such-library", found))
    assert libopus.load_libopus.__wrapped__()._name == found


@pytest.mark.anyio
async def test_an_orchestrator_without_libopus_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MediaError("opus.library_missing", "no libopus here")

    monkeypatch.setattr("voxthread.app.engine_room.load_libopus", missing)
    with pytest.raises(MediaError, match="no libopus here"):
        async with open_engines(Config(), None):
            pass


def test_a_machine_without_libopus_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opuslib_next.api", None)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    monkeypatch.setattr(libopus, "_SYSTEM_NAMES", ("no-such-library",))
    with pytest.raises(MediaError, match="install the opuslib-next-bundled wheel, or the library itself"):
        libopus.load_libopus.__wrapped__()
