"""From packets as they come to batches in order: at once when they can, after at most 60 ms when not."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.opus_packets import SILENCE, packet_samples
from voxthread.media.reorder import WAIT_MS, InOrder, Reorder
from voxthread.media.rtp import RtpPacket
from voxthread.media.uplink import MAX_DRIFT_MS, SILENT_AFTER_MS, Batch, Uplink

pytestmark = pytest.mark.unit

TOC = b"\xf8"


def payload(index: int) -> bytes:
    return TOC + index.to_bytes(4)


def packet(index: int, *, start: int = 0, ssrc: int = 1, skipped_ms: int = 0) -> RtpPacket:
    return RtpPacket(
        111,
        (start + index) & 0xFFFF,
        (start * 960 + index * 960 + skipped_ms * 48) & 0xFFFFFFFF,
        ssrc,
        False,
        payload(index),
    )


def payloads(ready: list[InOrder]) -> list[bytes]:
    return [item.payload for item in ready]


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (SILENCE, 960),
        (b"", 0),
        (b"\x00", 480),
        (b"\x18", 2880),
        (b"\x60", 480),
        (b"\x80", 120),
        (b"\xf9", 1920),
        (b"\xfb\x03", 2880),
        (b"\xfb", 0),
        (b"\xfb\x3f", 0),
    ],
)
def test_duration_of_a_packet_is_told_by_its_first_bytes(data: bytes, samples: int) -> None:
    assert packet_samples(data) == samples


@given(st.binary(max_size=4))
def test_duration_of_any_bytes_is_bounded(data: bytes) -> None:
    assert 0 <= packet_samples(data) <= 5760


def test_packets_in_sequence_are_handed_on_at_once() -> None:
    reorder = Reorder()
    for index in range(5):
        assert payloads(reorder.handle(packet(index), index * 20)) == [payload(index)]
    assert reorder.deadline() is None


def test_packets_behind_a_hole_wait_for_it() -> None:
    reorder = Reorder()
    reorder.handle(packet(0), 0)
    assert reorder.handle(packet(2), 40) == []
    assert reorder.deadline() == 40 + WAIT_MS
    assert payloads(reorder.handle(packet(1), 50)) == [payload(1), payload(2)]
    assert reorder.deadline() is None
    assert (reorder.lost, reorder.late) == (0, 0)


def test_hole_that_is_not_filled_in_time_is_handed_on() -> None:
    reorder = Reorder()
    reorder.handle(packet(0), 0)
    reorder.handle(packet(3), 60)
    assert reorder.handle_deadline(60 + WAIT_MS - 1) == []
    ready = reorder.handle_deadline(60 + WAIT_MS)
    assert payloads(ready) == [b"", b"", payload(3)]
    assert [item.timestamp for item in ready] == [960, 1920, 2880]
    assert reorder.lost == 2
    assert reorder.handle(packet(1), 130) == []
    assert reorder.late == 1


def test_duplicates_are_dropped() -> None:
    reorder = Reorder()
    reorder.handle(packet(0), 0)
    reorder.handle(packet(2), 20)
    assert reorder.handle(packet(2), 21) == []
    assert reorder.handle(packet(0), 22) == []
    assert reorder.late == 2


@pytest.mark.parametrize("start", [65_533, 4_473_922])
def test_sequence_and_timestamp_wrap_unnoticed(start: int) -> None:
    reorder = Reorder()
    ready = [item for index in range(8) for item in reorder.handle(packet(index, start=start), index * 20)]
    assert payloads(ready) == [payload(index) for index in range(8)]
    assert {b.timestamp - a.timestamp for a, b in itertools.pairwise(ready)} == {960}


def test_stray_packet_far_away_is_dropped_but_two_in_a_row_restart() -> None:
    reorder = Reorder()
    reorder.handle(packet(0), 0)
    assert reorder.handle(packet(20_000), 20) == []
    assert payloads(reorder.handle(packet(1), 40)) == [payload(1)]
    assert reorder.handle(packet(30_000), 60) == []
    assert payloads(reorder.handle(packet(30_001), 80)) == [payload(30_001)]
    assert payloads(reorder.handle(packet(30_002), 100)) == [payload(30_002)]


def test_packet_without_audio_uses_its_number_only() -> None:
    reorder = Reorder()
    reorder.handle(packet(0), 0)
    assert reorder.handle(packet(1)._replace(payload=b""), 20) == []
    assert payloads(reorder.handle(packet(2), 40)) == [payload(2)]


arrivals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 200)), min_size=1, max_size=80)
"""Indices that may be lost, doubled and out of order, and milliseconds between their arrivals."""


@given(arrivals, st.integers(0, 70_000))
def test_whatever_arrives_comes_out_once_in_order_and_in_time(
    sequence: list[tuple[int, int]], start: int
) -> None:
    reorder = Reorder()
    now = 0
    arrived: dict[bytes, int] = {}
    handed_on: list[InOrder] = []

    def note(ready: list[InOrder]) -> None:
        for item in ready:
            if item.payload:
                assert now - arrived[item.payload] <= WAIT_MS
        handed_on.extend(ready)

    for index, pause_ms in sequence:
        until = now + pause_ms
        while (deadline := reorder.deadline()) is not None and deadline <= until:
            now = deadline
            note(reorder.handle_deadline(now))
        now = until
        arrived.setdefault(payload(index), now)
        note(reorder.handle(packet(index, start=start), now))
    handed_on += reorder.drain()
    timestamps = [item.timestamp for item in handed_on]
    assert timestamps == sorted(set(timestamps))
    real = [item.payload for item in handed_on if item.payload]
    assert len(real) == len(set(real))
    assert len(real) + reorder.late == len(sequence)
    assert reorder.deadline() is None


def feed(uplink: Uplink, packets: list[tuple[RtpPacket, int]], batch_ms: int = 60) -> list[Batch]:
    return [batch for item, now in packets for batch in uplink.handle(item, now, batch_ms=batch_ms)]


def tick(uplink: Uplink, start_ms: int, end_ms: int, batch_ms: int = 20) -> list[Batch]:
    """What comes out each 20 ms from `start_ms` on, before `end_ms`."""
    return [
        batch for now in range(start_ms, end_ms, 20) for batch in uplink.handle_deadline(now, batch_ms=batch_ms)
    ]


def assert_no_overlap(batches: list[Batch]) -> None:
    end = 0
    for batch in batches:
        assert batch.timestamp >= end
        assert batch.packets[-1]
        end = batch.timestamp + len(batch.packets) * batch.packet_ms * 48


def test_packets_are_batched_and_timed_from_the_first() -> None:
    uplink = Uplink()
    batches = feed(uplink, [(packet(index, start=500), 1000 + index * 20) for index in range(7)])
    assert [batch.timestamp for batch in batches] == [0, 3 * 960]
    assert [len(batch.packets) for batch in batches] == [3, 3]
    assert uplink.deadline() == 1120 + 60
    (rest,) = uplink.handle_deadline(1180, batch_ms=60)
    assert rest == Batch(6 * 960, (payload(6),), 20)
    assert uplink.deadline() is None


def test_batches_are_single_packets_while_the_agent_speaks() -> None:
    batches = feed(Uplink(), [(packet(index), index * 20) for index in range(3)], batch_ms=20)
    assert [len(batch.packets) for batch in batches] == [1, 1, 1]


@pytest.mark.parametrize("batch_ms", [20, 60])
def test_hole_is_never_the_last_of_a_batch(batch_ms: int) -> None:
    uplink = Uplink()
    batches = feed(uplink, [(packet(index), index * 20) for index in (0, 1, 4, 5)], batch_ms)
    batches += uplink.handle_deadline(80 + WAIT_MS, batch_ms=batch_ms)
    batches += uplink.end_source(80 + WAIT_MS)
    assert [each for batch in batches for each in batch.packets] == [
        payload(0),
        payload(1),
        b"",
        b"",
        payload(4),
        payload(5),
    ]
    assert all(batch.packets[-1] for batch in batches)


def test_silence_that_was_not_sent_is_put_in_when_the_next_packet_tells_of_it() -> None:
    uplink = Uplink()
    batches = feed(uplink, [(packet(0), 0), (packet(1), 20), (packet(2, skipped_ms=200), 240)])
    batches += uplink.handle_deadline(400, batch_ms=60)
    assert batches == [
        Batch(0, (payload(0), payload(1)), 20),
        Batch(2 * 960, (SILENCE,) * 10, 20),
        Batch(2 * 960 + 200 * 48, (payload(2),), 20),
    ]


def test_a_caller_who_sends_nothing_is_silent_by_the_clock() -> None:
    uplink = Uplink()
    feed(uplink, [(packet(0), 0)], batch_ms=20)
    batches = tick(uplink, 0, 2_000)
    assert {each for batch in batches for each in batch.packets} == {SILENCE}
    assert 1_900 <= sum(len(batch.packets) * 20 for batch in batches) <= 2_000
    assert [batch.timestamp for batch in batches] == sorted(batch.timestamp for batch in batches)


def test_silence_is_told_of_no_later_than_the_ear_needs_it() -> None:
    """An ear takes 192 ms of it for the end of speech."""
    uplink = Uplink()
    feed(uplink, [(packet(0), 0)], batch_ms=20)
    assert tick(uplink, 0, SILENT_AFTER_MS - 20) == []
    batches = tick(uplink, SILENT_AFTER_MS, SILENT_AFTER_MS + 20)
    assert sum(len(batch.packets) for batch in batches) * 20 >= 192


def test_comfort_packets_of_dtx_keep_their_place_in_the_silence() -> None:
    uplink, batches = Uplink(), []
    for index in range(10):
        now = index * 400
        batches += feed(uplink, [(packet(index, skipped_ms=index * 380), now)], batch_ms=20)
        batches += tick(uplink, now + 20, now + 400)
    heard_ms = sum(len(batch.packets) * 20 for batch in batches)
    assert abs(heard_ms - 4_000) <= 120
    assert [each for batch in batches for each in batch.packets if each != SILENCE] == [
        payload(index) for index in range(10)
    ]


def test_no_word_is_lost_when_what_seemed_silence_was_under_way() -> None:
    uplink = Uplink()
    batches = feed(uplink, [(packet(0), 0)], batch_ms=20)
    batches += tick(uplink, 20, 800)
    batches += feed(uplink, [(packet(index), 800) for index in range(1, 41)], batch_ms=20)
    batches += feed(uplink, [(packet(41), 820)], batch_ms=20)
    voice = [each for batch in batches for each in batch.packets if each != SILENCE]
    assert voice == [payload(index) for index in range(42)]
    assert_no_overlap(batches)


def test_places_of_lost_packets_do_not_follow_the_silence_that_told_of_them() -> None:
    uplink = Uplink()
    batches = feed(uplink, [(packet(0), 0)], batch_ms=20)
    batches += tick(uplink, 20, 800)
    batches += feed(uplink, [(packet(40), 800)], batch_ms=20) + tick(uplink, 820, 900)
    assert 800 <= sum(len(batch.packets) * 20 for batch in batches) <= 960


def test_a_process_that_slept_does_not_make_up_for_hours_of_silence() -> None:
    uplink = Uplink()
    feed(uplink, [(packet(0), 0)], batch_ms=20)
    (silence,) = uplink.handle_deadline(3_600_000, batch_ms=20)
    assert len(silence.packets) * 20 == MAX_DRIFT_MS
    assert silence.timestamp == 960 + (3_600_000 - WAIT_MS - MAX_DRIFT_MS) * 48


def test_no_silence_is_made_up_before_a_source_or_after_its_end() -> None:
    uplink = Uplink()
    assert tick(uplink, 0, 1_000) == []
    feed(uplink, [(packet(0), 1_000)], batch_ms=20)
    uplink.end_source(1_020)
    assert tick(uplink, 1_020, 3_000) == []


def test_source_without_audio_is_not_silent_but_unknown() -> None:
    uplink = Uplink()
    feed(uplink, [(packet(0)._replace(payload=b""), 0)])
    assert tick(uplink, 0, 1_000) == []


def test_new_source_goes_on_where_the_clock_says() -> None:
    uplink = Uplink()
    feed(uplink, [(packet(0), 0)])
    batches = feed(uplink, [(packet(0, start=9_999, ssrc=2), 1_000)], batch_ms=20)
    assert [batch.timestamp for batch in batches] == [0, 1_000 * 48]


def test_timestamp_jump_within_a_source_goes_on_where_the_clock_says() -> None:
    uplink = Uplink()
    batches = feed(uplink, [(packet(0), 0), (packet(1, skipped_ms=3_600_000), 20)], batch_ms=20)
    assert [batch.timestamp for batch in batches] == [0, 960]
    batches = feed(uplink, [(packet(2, skipped_ms=3_600_000), 40)], batch_ms=20)
    assert [batch.timestamp for batch in batches] == [2 * 960]


def test_timestamps_that_run_backwards_are_placed_behind_what_was_heard() -> None:
    uplink = Uplink()
    batches = feed(
        uplink, [(packet(50), 0), (packet(51, skipped_ms=-900), 20), (packet(52, skipped_ms=-900), 40)], 20
    )
    assert [batch.timestamp for batch in batches] == [0, 960, 1920]


def test_packets_of_another_duration_get_records_of_their_own() -> None:
    uplink = Uplink()
    long = RtpPacket(111, 1, 960, 1, False, b"\xf9" + b"long")
    too_short = RtpPacket(111, 2, 960 + 1920, 1, False, b"\x80" + b"short")
    batches = feed(uplink, [(packet(0), 0), (long, 20), (too_short, 40)])
    batches += uplink.end_source(100)
    assert batches == [Batch(0, (payload(0),), 20), Batch(960, (long.payload,), 40)]
    assert uplink.unusable == 1


@given(arrivals, st.sampled_from([20, 60]), st.integers(-4_000, 4_000))
def test_batches_never_overlap_and_keep_time(
    sequence: list[tuple[int, int]], batch_ms: int, jump_ms: int
) -> None:
    uplink, now, batches = Uplink(), 0, []
    for position, (index, pause_ms) in enumerate(sequence):
        for tick_ms in range(now, now + pause_ms, 20):
            batches += uplink.handle_deadline(tick_ms, batch_ms=batch_ms)
        now += pause_ms
        jumped_ms = jump_ms if position > len(sequence) // 2 else 0
        arrived = packet(index, ssrc=1 + index // 50, skipped_ms=jumped_ms)
        batches += uplink.handle(arrived, now, batch_ms=batch_ms)
    batches += uplink.end_source(now)
    assert_no_overlap(batches)
    made_up_ms = 20 * sum(each == SILENCE for batch in batches for each in batch.packets)
    assert made_up_ms <= now
