"""RTCP: what is built is parsed back, and reports say what RFC 3550 says they do."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.reception import Reception
from voxthread.media.rtcp import (
    MAX_MISSING,
    Missing,
    ReportBlock,
    SenderReport,
    SenderTime,
    build_nack,
    build_receiver_report,
    build_sender_report,
    compact_ntp,
    parse_rtcp,
    round_trip_ms,
)
from voxthread.media.rtp import MalformedPacketError

pytestmark = pytest.mark.unit

NOW_US = 1_700_000_000_500_000
CNAME = b"voice"

words = st.integers(0, 0xFFFFFFFF)
blocks = st.builds(
    ReportBlock,
    ssrc=words,
    fraction_lost=st.integers(0, 255).map(lambda share: share / 256),
    lost=st.integers(-0x800000, 0x7FFFFF),
    highest_sequence=words,
    jitter=words,
    last_sr=words,
    delay_since_last_sr=words,
)


@given(st.lists(blocks, max_size=31), words)
def test_reports_are_compound_packets_that_parse_to_themselves(reported: list[ReportBlock], ssrc: int) -> None:
    receiver = build_receiver_report(ssrc, reported, CNAME)
    sender = build_sender_report(SenderReport(ssrc, NOW_US, 96_000, 10, 400), reported, CNAME)
    assert len(receiver) % 4 == len(sender) % 4 == 0
    assert parse_rtcp(receiver).blocks == parse_rtcp(sender).blocks == reported
    assert parse_rtcp(sender).senders == [SenderTime(ssrc, compact_ntp(NOW_US))]
    assert parse_rtcp(receiver).senders == []


def test_every_compound_packet_names_its_sender() -> None:
    for data in (
        build_receiver_report(7, (), CNAME),
        build_nack(7, 9, [1], CNAME),
        build_sender_report(SenderReport(7, NOW_US, 0, 1, 1), (), CNAME),
    ):
        assert b"\x00\x00\x00\x07\x01\x05voice" in data


@given(st.integers(0, 0xFFFF), st.sets(st.integers(0, 40), min_size=1, max_size=16))
def test_request_names_exactly_the_packets_that_are_missing(start: int, offsets: set[int]) -> None:
    sequences = [(start + offset) & 0xFFFF for offset in sorted(offsets)]
    missing = parse_rtcp(build_nack(7, 9, sequences, CNAME)).missing
    assert missing == [Missing(9, sequence) for sequence in sequences]


def test_request_for_everything_is_read_only_so_far() -> None:
    data = struct.pack("!BBHII", 0x81, 205, 2 + 300, 7, 9) + struct.pack("!HH", 5, 0xFFFF) * 300
    assert len(parse_rtcp(data).missing) == MAX_MISSING


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x80\xc8\x00\x06",
        struct.pack("!BBHI", 0x80, 200, 1, 7),
        struct.pack("!BBHI", 0x81, 201, 1, 7),
        struct.pack("!BBHI", 0x81, 205, 1, 7),
        struct.pack("!BBHI", 0x40, 201, 1, 7),
    ],
)
def test_cut_off_or_foreign_packet_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        parse_rtcp(data)


def test_packets_of_other_kinds_are_skipped() -> None:
    goodbye = struct.pack("!BBHI", 0x81, 203, 1, 7)
    picture_loss = struct.pack("!BBHII", 0x81, 206, 2, 7, 9)
    parsed = parse_rtcp(goodbye + picture_loss + build_nack(7, 9, [3], CNAME))
    assert parsed.missing == [Missing(9, 3)]


def report_of(**values: int) -> ReportBlock:
    return ReportBlock(
        **{
            "ssrc": 7,
            "fraction_lost": 0.0,
            "lost": 0,
            "highest_sequence": 0,
            "jitter": 0,
            "last_sr": 0,
            "delay_since_last_sr": 0,
            **values,
        }
    )


def test_round_trip_is_what_passed_less_what_the_caller_waited() -> None:
    block = report_of(last_sr=compact_ntp(NOW_US), delay_since_last_sr=65536 // 2)
    assert round_trip_ms(block, NOW_US + 580_000) == pytest.approx(80, abs=1)


def test_round_trip_without_a_report_of_ours_is_unknown() -> None:
    assert round_trip_ms(report_of(), NOW_US) is None
    assert round_trip_ms(report_of(last_sr=1), NOW_US) is None


# -- what we report of the caller ----------------------------------------------------------------------


def receive(reception: Reception, sequences: list[int], *, late_us: int = 0) -> None:
    for sequence in sequences:
        reception.received(sequence & 0xFFFF, sequence * 960 & 0xFFFFFFFF, NOW_US + sequence * 20_000 + late_us)


@pytest.mark.parametrize("start", [0, 65_530, 4_473_922])
def test_packets_that_all_came_are_reported_without_loss(start: int) -> None:
    reception = Reception(9)
    receive(reception, list(range(start, start + 50)))
    block = reception.report(NOW_US)
    assert (block.ssrc, block.lost, block.fraction_lost, block.jitter) == (9, 0, 0.0, 0)
    assert block.highest_sequence & 0xFFFF == (start + 49) & 0xFFFF


def test_loss_is_of_the_time_since_the_report_before_and_of_all_time() -> None:
    reception = Reception(9)
    receive(reception, [each for each in range(40) if each % 4])  # begins at 1, ends at 39
    first = reception.report(NOW_US)
    assert (first.lost, first.fraction_lost) == (9, 9 / 39)
    receive(reception, list(range(40, 60)))
    second = reception.report(NOW_US)
    assert (second.lost, second.fraction_lost) == (9, 0.0)


def test_packets_out_of_order_are_no_loss() -> None:
    reception = Reception(9)
    receive(reception, [0, 2, 1, 4, 3, 5])
    assert reception.report(NOW_US).lost == 0


def test_more_than_was_expected_is_a_negative_loss_and_no_fraction() -> None:
    reception = Reception(9)
    receive(reception, [0, 1, 1, 1, 2])
    block = reception.report(NOW_US)
    assert (block.lost, block.fraction_lost) == (-2, 0.0)


def test_report_right_after_the_one_before_says_nothing_was_lost() -> None:
    reception = Reception(9)
    receive(reception, [0, 5])
    reception.report(NOW_US)
    assert reception.report(NOW_US).fraction_lost == 0.0


def test_source_that_counts_from_elsewhere_has_lost_nothing_in_between() -> None:
    reception = Reception(9)
    receive(reception, [0, 1, 3])
    receive(reception, [30_000, 30_001])
    block = reception.report(NOW_US)
    assert (block.lost, block.highest_sequence) == (1, 30_001)


def test_jitter_nears_the_mean_change_of_the_delay() -> None:
    reception = Reception(9)
    for sequence in range(400):
        receive(reception, [sequence], late_us=10_000 * (sequence % 2))
    assert reception.jitter_ms == pytest.approx(10, abs=1)


def test_timestamps_that_jump_are_no_jitter() -> None:
    reception = Reception(9)
    receive(reception, list(range(10)))
    reception.received(10, 3_000_000_000, NOW_US + 200_000)
    reception.received(11, 3_000_000_960, NOW_US + 220_000)
    assert reception.jitter_ms == 0


def test_caller_learns_the_round_trip_from_our_report() -> None:
    reception = Reception(9)
    receive(reception, [0])
    assert reception.report(NOW_US).last_sr == 0
    reception.sender_reported(compact_ntp(NOW_US), NOW_US + 15_000)
    block = reception.report(NOW_US + 700_000)
    assert round_trip_ms(block, NOW_US + 720_000) == pytest.approx(35, abs=1)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), words, st.integers(0, 10**9)), max_size=60))
def test_any_packets_make_a_report_that_fits_its_fields(arrivals: list[tuple[int, int, int]]) -> None:
    reception = Reception(9)
    now_us = NOW_US
    for sequence, timestamp, pause_us in arrivals:
        now_us += pause_us
        reception.received(sequence, timestamp, now_us)
    block = reception.report(now_us)
    assert 0 <= block.fraction_lost <= 1
    assert parse_rtcp(build_receiver_report(7, [block], CNAME)).blocks[0].ssrc == 9


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_fractions_of_all_reports_add_up_to_the_loss(came: list[bool]) -> None:
    reception, expected, told = Reception(9), 0, 0.0
    receive(reception, [0])
    reception.report(NOW_US)
    for index, has_come in enumerate([*came, True], start=1):
        expected += 1
        if has_come:
            receive(reception, [index])
            told += reception.report(NOW_US).fraction_lost * expected
            expected = 0
    assert told == pytest.approx(came.count(False))
    assert reception.report(NOW_US).lost == came.count(False)
