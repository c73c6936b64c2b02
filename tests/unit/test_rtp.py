"""RTP parsing: what is built is parsed back, and no bytes do worse than MalformedPacketError."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.datagrams import kind_of
from voxthread.media.rtcp import MAX_MISSING, parse_rtcp
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
    level=st.none(),
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
        parse_rtp(data, 1)
    with contextlib.suppress(MalformedPacketError):
        assert len(parse_rtcp(data).missing) <= MAX_MISSING
    kind_of(data)


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


levels = st.none() | st.integers(0, 127)


@given(packets, levels, st.integers(1, 14))
def test_level_is_read_where_it_was_negotiated(packet: RtpPacket, level: int | None, level_id: int) -> None:
    packet = packet._replace(level=level)
    data = build_rtp(packet, level_id)
    assert parse_rtp(data, level_id) == packet
    assert parse_rtp(data) == packet._replace(level=None)
    assert parse_rtp(data, level_id % 14 + 1).level is None


@pytest.mark.parametrize(
    ("profile", "block", "level"),
    [
        (0xBEDE, b"\x10\x2a\x00\x00", 0x2A),
        (0xBEDE, b"\x10\xaa\x00\x00", 0x2A),  # the voice bit is not ours to believe
        (0xBEDE, b"\x00\x21\x01\x02\x10\x2a\x00\x00", 0x2A),
        (0xBEDE, b"\x20\x2a\x00\x00", None),
        (0xBEDE, b"\xf0\x00\x10\x2a", None),
        (0xBEDE, b"\x00\x00\x00\x10", None),
        (0x1000, b"\x01\x01\x2a\x00", 0x2A),
        (0x1003, b"\x02\x00\x01\x01\x2a\x00\x00\x00", 0x2A),
        (0x1000, b"\x00\x00\x01\x04", None),
        (0x1000, b"\x00\x00\x00\x01", None),
        (0x1000, b"\x01\x00\x00\x00", None),
        (0xABCD, b"\x10\x2a\x00\x00", None),
    ],
)
def test_level_is_found_in_either_form_of_extension(profile: int, block: bytes, level: int | None) -> None:
    head = build_rtp(RtpPacket(111, 1, 2, 3, False, b""))
    data = bytes((head[0] | 0x10,)) + head[1:] + struct.pack("!HH", profile, len(block) // 4) + block + b"voice"
    parsed = parse_rtp(data, 1)
    assert (parsed.level, parsed.payload) == (level, b"voice")
