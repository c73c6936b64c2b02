"""RTP and RTCP parsing: what is built is parsed back, and no bytes do worse than MalformedPacketError."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.rtcp import (
    SenderReport,
    build_sender_report,
    compact_ntp,
    parse_report_blocks,
    round_trip_ms,
)
from voxthread.media.rtp import MalformedPacketError, RtpPacket, build_rtp, is_rtcp, parse_rtp, unwrap

pytestmark = pytest.mark.unit

packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    marker=st.booleans(),
    payload=st.binary(max_size=200),
)


@given(packets)
def test_built_packet_parses_to_itself(packet: RtpPacket) -> None:
    assert parse_rtp(build_rtp(packet)) == packet


@given(packets, st.integers(0, 15), st.none() | st.integers(0, 5), st.integers(0, 40))
def test_csrc_extension_and_padding_are_stripped(
    packet: RtpPacket, csrc_count: int, extension_words: int | None, padding: int
) -> None:
    plain = build_rtp(packet)
    first = plain[0] | csrc_count | (0x10 if extension_words is not None else 0) | (0x20 if padding else 0)
    extension = b""
    if extension_words is not None:
        extension = struct.pack("!HH", 0xBEDE, extension_words) + bytes(4 * extension_words)
    tail = bytes(padding - 1) + bytes((padding,)) if padding else b""
    data = bytes((first,)) + plain[1:12] + bytes(4 * csrc_count) + extension + plain[12:] + tail
    assert parse_rtp(data) == packet


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedPacketError):
        parse_rtp(data)
    with contextlib.suppress(MalformedPacketError):
        parse_report_blocks(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(12),
        b"\x80" + bytes(10),
        b"\x81" + bytes(11),
        b"\x90" + bytes(11),
        b"\x90" + bytes(11) + b"\xbe\xde\x00\x01",
        b"\xa0" + bytes(11),
        b"\xa0" + bytes(11) + b"\x00",
        b"\xa0" + bytes(11) + b"\x02",
    ],
)
def test_truncated_or_foreign_packet_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        parse_rtp(data)


@pytest.mark.parametrize(
    ("second", "expected"), [(191, False), (192, True), (200, True), (223, True), (224, False)]
)
def test_rtcp_is_told_by_its_second_byte(second: int, expected: bool) -> None:
    assert is_rtcp(bytes((0x80, second))) is expected


@given(st.integers(0, 1 << 40), st.integers(-30000, 30000))
def test_unwrap_finds_the_nearest_value(near: int, step: int) -> None:
    assert unwrap((near + step) % (1 << 16), near, 16) == near + step


def test_sender_report_is_a_compound_packet_of_whole_words() -> None:
    data = build_sender_report(SenderReport(7, 1_700_000_000_500_000, 96_000, 10, 400), b"voice")
    assert len(data) % 4 == 0
    assert data[1] == 200
    assert data[28 + 1] == 202
    assert parse_report_blocks(data) == []


def test_receiver_report_yields_loss_and_round_trip() -> None:
    sent_us = 1_700_000_000_000_000
    block = struct.pack("!IIIIII", 7, 64 << 24, 0, 0, compact_ntp(sent_us), 65536 // 2)
    data = struct.pack("!BBHI", 0x81, 201, 7, 99) + block
    (parsed,) = parse_report_blocks(data)
    assert parsed.ssrc == 7
    assert parsed.fraction_lost == 0.25
    assert round_trip_ms(parsed, sent_us + 580_000) == pytest.approx(80, abs=1)


def test_round_trip_without_a_report_of_ours_is_unknown() -> None:
    block = struct.pack("!IIIIII", 7, 0, 0, 0, 0, 0)
    (parsed,) = parse_report_blocks(struct.pack("!BBHI", 0x81, 201, 7, 99) + block)
    assert round_trip_ms(parsed, 1_700_000_000_000_000) is None
