"""RTP packets and the arithmetic of their wrapping counters (RFC 3550, RFC 8285). Pure."""

import struct
from typing import Final, NamedTuple

OPUS_CLOCK_PER_MS: Final = 48
"""RTP clock of Opus, in ticks per millisecond (RFC 7587 section 4.1)."""

_HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")
_VERSION_BITS: Final = 0x80
_PADDING_BIT: Final = 0x20
_EXTENSION_BIT: Final = 0x10
_CSRC_COUNT: Final = 0x0F
_MARKER_BIT: Final = 0x80


class MalformedPacketError(ValueError):
    """Bytes from the network that are not the packet they claim to be; the receiver drops and counts them."""


class RtpPacket(NamedTuple):
    """One RTP packet without its padding, contributing sources and header extensions.

    An empty payload carries no audio but has used up its sequence number.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    marker: bool
    payload: bytes


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram with the version bits of RTP is RTCP (RFC 5761 section 4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


def parse_rtp(data: bytes) -> RtpPacket:
    """Raises `MalformedPacketError`."""
    if len(data) < _HEADER.size:
        raise MalformedPacketError(f"{len(data)} bytes are shorter than an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first & 0xC0 != _VERSION_BITS:
        raise MalformedPacketError("the RTP version is not 2")
    start = _HEADER.size + 4 * (first & _CSRC_COUNT)
    if first & _EXTENSION_BIT:
        if start + _EXTENSION.size > len(data):
            raise MalformedPacketError("the RTP header extension is cut off")
        start += _EXTENSION.size + 4 * _EXTENSION.unpack_from(data, start)[1]
    end = len(data)
    if first & _PADDING_BIT:
        if not 0 < data[-1] <= end - start:
            raise MalformedPacketError("the RTP padding exceeds the payload")
        end -= data[-1]
    if start > end:
        raise MalformedPacketError("the RTP headers exceed the packet")
    return RtpPacket(
        second & 0x7F, sequence, timestamp, ssrc, bool(second & _MARKER_BIT), bytes(data[start:end])
    )


def build_rtp(packet: RtpPacket) -> bytes:
    """A packet with the plain 12-byte header; counters are taken modulo their width."""
    return (
        _HEADER.pack(
            _VERSION_BITS,
            packet.payload_type | (_MARKER_BIT if packet.marker else 0),
            packet.sequence & 0xFFFF,
            packet.timestamp & 0xFFFFFFFF,
            packet.ssrc,
        )
        + packet.payload
    )


def unwrap(value: int, near: int, bits: int) -> int:
    """The integer congruent to `value` modulo 2**bits that is closest to `near`; may be negative."""
    modulus = 1 << bits
    ahead = (value - near) % modulus
    return near + (ahead - modulus if ahead >= modulus // 2 else ahead)
