"""The figures of the media bench, and the bad line they are measured on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.client.utterance import SILENT_PACKET, encode_utterance
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.media_bench import figures
from voxthread.media_bench.bad_line import BadLine
from voxthread.media_bench.caller import UNDISTURBED
from voxthread.media_bench.hearing import Placing, has_redundancy, listen, sounding
from voxthread.media_bench.plan import (
    PACKET_TICKS,
    PACKET_US,
    Arrived,
    Call,
    Conditions,
    Frame,
    Heard,
    Measured,
    Tracks,
    Usage,
)
from voxthread.media_bench.recovery import Recovery, listen_to_all, recovery_json, recovery_of
from voxthread.media_bench.wer import increase
from voxthread.media_bench.words import lines, plain, word_errors
from voxthread.wire.audio import AudioRecord, encode_audio

pytestmark = pytest.mark.unit

SESSION = "session_1753590741399040_5cc15fe6"
PACKETS = 100


def voice() -> list[bytes]:
    """Two seconds of a vowel whose pitch and loudness wander."""
    times = np.arange(PACKETS * SPEECH_RATE_HZ // 50) / SPEECH_RATE_HZ
    phase = 2 * np.pi * (120 * times + 3 * np.sin(2 * np.pi * 3 * times))
    wave = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    samples = 6_000 * wave * (1 + 0.5 * np.sin(2 * np.pi * 4 * times))
    pcm = samples.clip(-32_768, 32_767).astype("<i2").tobytes()
    return list(encode_utterance(PcmFrame(pcm=pcm, rate_hz=SPEECH_RATE_HZ)).packets[:PACKETS])


TRACK = voice()
TRACKS = Tracks(callers=[TRACK], reply=TRACK)


def record(first: int, *packets: bytes) -> AudioRecord:
    return AudioRecord(epoch=0, seq=first + 1, timestamp=first * PACKET_TICKS, packets=packets)


def measured(*, heard: dict[int, int] | None = None, sent: int = PACKETS, late_us: int = 0) -> Measured:
    """One call of `sent` packets; `heard` are the delays of the reply's packets by number."""
    call = Call(
        session_id=SESSION,
        track=0,
        sent_us=[number * PACKET_US for number in range(sent)],
        heard_us=[number * PACKET_US + delay_us for number, delay_us in (heard or {}).items()],
        heard_ticks=[(0xFFFFFF00 + number * PACKET_TICKS) & 0xFFFFFFFF for number in heard or {}],
    )
    return Measured(calls=[call], began_us=0, ended_us=sent * PACKET_US, late_us=[late_us])


def heard_of(*records: AudioRecord, after_us: int = 500) -> Heard:
    """Each record comes so long after its last packet was sent."""
    arrived = [
        Arrived(
            (each.timestamp // PACKET_TICKS + len(each.packets) - 1) * PACKET_US + after_us, encode_audio(each)
        )
        for each in records
    ]
    return Heard(records={SESSION: arrived})


def recovery(heard: Heard) -> Recovery:
    return recovery_of(measured(), listen_to_all(measured(), heard, TRACKS), TRACKS)


# -- the line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [0.0, 3.0])
def test_a_bad_line_loses_its_share(burst: float) -> None:
    line = BadLine(Conditions(loss=0.1, burst=burst), seed=7)
    lost = [line.carry() is None for _ in range(50_000)]
    assert np.mean(lost) == pytest.approx(0.1, abs=0.01)
    runs = len([1 for before, now in zip([False, *lost], lost, strict=False) if now and not before])
    assert sum(lost) / runs == pytest.approx(burst or 1 / 0.9, rel=0.1)


@given(st.integers(0, 2**32), st.floats(0, 100), st.floats(0, 100))
def test_a_slow_line_delays_within_its_jitter(seed: int, jitter_ms: float, round_trip_ms: float) -> None:
    line = BadLine(Conditions(jitter_ms=jitter_ms, round_trip_ms=round_trip_ms), seed)
    for _ in range(20):
        delay_us = line.carry()
        assert delay_us is not None
        assert int(round_trip_ms * 1000) <= delay_us <= (round_trip_ms + jitter_ms) * 1000


def test_a_line_is_as_bad_again_for_the_same_seed() -> None:
    conditions = Conditions(loss=0.3, burst=2, jitter_ms=30)
    first, second = BadLine(conditions, 3), BadLine(conditions, 3)
    assert [first.carry() for _ in range(200)] == [second.carry() for _ in range(200)]


# -- lateness -----------------------------------------------------------------------------------------


def test_replies_on_the_schedule_are_not_late_wherever_their_timestamps_begin() -> None:
    told = figures.lateness(measured(heard=dict.fromkeys(range(PACKETS), 700)))
    assert told["late_fraction"] == 0
    assert told["late_p99_ms"] == 0


def test_late_and_missing_packets_of_a_reply_are_late() -> None:
    delays = dict.fromkeys(range(PACKETS), 0) | {10: 10_001, 11: 9_999}
    del delays[50], delays[51]
    assert figures.lateness(measured(heard=delays))["late_fraction"] == pytest.approx(0.03)


def test_a_call_that_hears_nothing_is_late_altogether() -> None:
    assert figures.lateness(measured())["late_fraction"] == 1


def test_callers_who_are_late_themselves_measure_nothing() -> None:
    assert figures.invalid_because(measured(late_us=1_900)) == []
    assert len(figures.invalid_because(measured(late_us=2_100))) == 1


def test_added_delay_is_that_of_the_packet_that_completed_a_record() -> None:
    heard = heard_of(record(0, *TRACK[:3]), record(3, *TRACK[3:6]), after_us=800)
    assert figures.added_delays_ms(measured(), heard, TRACKS) == [0.8, 0.8]
    frames = Heard(frames={SESSION: [Frame(5 * PACKET_US + 90_000, 5 * PACKET_TICKS, b"")]})
    assert figures.added_delays_ms(measured(), frames, TRACKS) == [90]


def test_cost_is_of_one_core_and_one_session() -> None:
    before = Usage(at_us=0, cpu_s=1, rss_bytes=0, threads=1, sockets=1, tasks=1)
    after = Usage(at_us=10_000_000, cpu_s=4, rss_bytes=0, threads=1, sockets=1, tasks=1)
    assert figures.cost(before, after, 20) == {"cpu_percent": 30, "cpu_percent_per_session": 1.5}


# -- recovery -----------------------------------------------------------------------------------------


def test_redundancy_is_read_off_the_packet() -> None:
    assert has_redundancy(TRACK[50])
    assert not has_redundancy(SILENT_PACKET)
    assert not has_redundancy(b"")


def test_a_voice_sounds_and_silence_does_not() -> None:
    assert all(sounding(TRACK)[2:])
    assert sounding([SILENT_PACKET] * 3) == [False] * 3


def test_packets_behind_silence_that_nobody_sent_are_found() -> None:
    placing = Placing(TRACK)
    assert placing.numbers(record(0, *TRACK[:2])) == [0, 1]
    assert placing.numbers(record(2, SILENT_PACKET, SILENT_PACKET)) == [None, None]
    assert placing.numbers(record(4, TRACK[2], b"", TRACK[4])) == [2, 3, 4]


def test_a_hole_is_restored_by_the_packet_behind_it_and_guessed_without() -> None:
    assert all(has_redundancy(TRACK[number]) for number in (31, 34))
    heard = listen([record(0, *TRACK[:30], b"", TRACK[31], b"", b"", TRACK[34])], TRACK)
    assert heard.arrived == {*range(30), 31, 34}
    assert heard.restored == {30, 33}
    assert heard.guessed == {32}


def test_unrecovered_is_the_sound_that_was_guessed_or_never_came() -> None:
    first = record(0, *TRACK[:40], b"", b"", *TRACK[42:60])
    behind = record(65, *TRACK[65:])
    found = recovery(heard_of(first, behind))
    told = recovery_json(found, measured().calls)
    assert told["unrecovered_fraction"] == pytest.approx(6 / (PACKETS - UNDISTURBED))
    assert told["packets"]["restored_by_fec"] == 1
    assert told["packets"]["guessed"] == 1
    assert told["packets"]["missing"] == 5


def test_of_decoded_frames_those_that_are_not_there_are_missing() -> None:
    frames = [Frame(number * PACKET_US, number * PACKET_TICKS, b"") for number in range(PACKETS) if number % 10]
    found = recovery(Heard(frames={SESSION: frames}))
    assert (found.sent, found.missing, found.restored) == (PACKETS - UNDISTURBED, 7, 0)


# -- words --------------------------------------------------------------------------------------------


def test_callers_say_over_two_thousand_words_and_no_line_twice() -> None:
    said = lines()
    assert sum(len(plain(line)) for line in said) >= 2_000
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(
    ("heard", "errors"), [("a b c", 0), ("a c", 1), ("a x c", 1), ("a b b c", 1), ("", 3), ("c b a", 2)]
)
def test_word_errors_are_the_fewest_changes(heard: str, errors: int) -> None:
    assert word_errors(["a", "b", "c"], heard.split()) == errors


def test_the_increase_is_of_the_mean_over_the_lines_with_its_interval() -> None:
    told = increase([10] * 40, [1] * 40, [[1, 2] * 20, [2, 1] * 20])
    assert told["clean"] == 0.1
    assert told["lossy"] == 0.15
    assert told["increase_points"] == told["low"] == told["high"] == 5
    uneven = increase([10] * 40, [0] * 40, [[0] * 39 + [10]])
    assert uneven["low"] <= uneven["increase_points"] == 2.5 <= uneven["high"]
