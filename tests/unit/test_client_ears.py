"""What the client hears of packets that come in order, late or not at all."""

import numpy as np
import pytest

from voxthread.client.ears import Ears
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.client.utterance import SILENT_PACKET, encode_utterance
from voxthread.core.audio import PcmFrame
from voxthread.media.rtp import RtpPacket

pytestmark = pytest.mark.unit

MS = 1_000
START_US = 1_000_000 * MS
FIRST_SEQUENCE = 65_530
FIRST_TIMESTAMP = (1 << 32) - 2_000


def tone_packets(count: int) -> tuple[bytes, ...]:
    phase = 2 * np.pi * 440 * np.arange(count * CALL_RATE_HZ // 50) / CALL_RATE_HZ
    pcm = (10_000 * np.sin(phase)).astype("<i2").tobytes()
    return encode_utterance(PcmFrame(pcm=pcm, rate_hz=CALL_RATE_HZ)).packets


def hear(ears: Ears, index: int, payload: bytes, *, ssrc: int = 1) -> None:
    """The packet `index`, 20 ms after the one before it; both counters wrap on the way."""
    packet = RtpPacket(
        payload_type=96,
        sequence=(FIRST_SEQUENCE + index) & 0xFFFF,
        timestamp=(FIRST_TIMESTAMP + 960 * index) & 0xFFFFFFFF,
        ssrc=ssrc,
        marker=False,
        payload=payload,
    )
    ears.receive(packet, START_US + index * 20 * MS)


def test_silence_is_not_heard() -> None:
    ears = Ears()
    for index in range(5):
        hear(ears, index, SILENT_PACKET)

    assert ears.received_packets == 5
    assert ears.sounds.last_us is None


def test_a_sound_is_heard_when_its_packet_arrives_but_for_the_codecs_delay() -> None:
    ears = Ears()
    for index in range(5):
        hear(ears, index, SILENT_PACKET)
    for index, payload in enumerate(tone_packets(10), start=5):
        hear(ears, index, payload)

    heard_us = ears.sounds.first_after(0)
    assert heard_us is not None
    assert heard_us - (START_US + 100 * MS) == pytest.approx(6.5 * MS, abs=3 * MS)


def test_a_running_stream_is_recorded_without_a_gap_across_wrapping_counters() -> None:
    ears = Ears(records=True)
    for index, payload in enumerate(tone_packets(18)):
        hear(ears, index, payload)

    assert ears.track is not None
    assert [at_us for at_us, _ in ears.track.parts] == [START_US + index * 20 * MS for index in range(20)]
    assert (ears.lost_packets, ears.late_packets) == (0, 0)


def test_a_hole_is_counted_and_concealed_in_its_place() -> None:
    ears = Ears(records=True)
    for index, payload in enumerate(tone_packets(10)):
        if index not in (4, 5):
            hear(ears, index, payload)

    assert ears.lost_packets == 2
    assert ears.track is not None
    ends_us = [at_us + len(pcm) // 2 * 1_000_000 // CALL_RATE_HZ for at_us, pcm in ears.track.parts]
    assert ends_us[-1] == START_US + 12 * 20 * MS
    assert sum(len(pcm) // 2 for _, pcm in ears.track.parts) == 12 * CALL_RATE_HZ // 50


def test_a_packet_behind_its_successor_is_late_and_not_heard() -> None:
    ears = Ears()
    first, second, third, *_ = tone_packets(10)
    hear(ears, 0, first)
    hear(ears, 2, third)
    hear(ears, 1, second)

    assert (ears.received_packets, ears.lost_packets, ears.late_packets) == (2, 1, 1)


def test_a_new_source_with_lower_numbers_is_heard() -> None:
    ears = Ears()
    first, second, *_ = tone_packets(2)
    hear(ears, 9, first)
    hear(ears, 0, second, ssrc=2)

    assert (ears.received_packets, ears.lost_packets, ears.late_packets) == (2, 0, 0)


def test_an_empty_payload_is_ignored() -> None:
    ears = Ears()
    hear(ears, 0, b"")

    assert ears.received_packets == 0


@pytest.mark.anyio
async def test_quiet_with_nothing_heard_returns_at_once() -> None:
    await Ears().quiet(60_000)


@pytest.mark.anyio
async def test_sound_after_returns_what_was_heard_already() -> None:
    ears = Ears()
    for index, payload in enumerate(tone_packets(5)):
        hear(ears, index, payload)

    assert await ears.sound_after(0) == ears.sounds.first_after(0)
