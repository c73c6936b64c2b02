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

_ONE_BYTE_PROFILE: Final = 0xBEDE
_TWO_BYTE_PROFILE: Final = 0x1000
_RESERVED_ID: Final = 15


class MalformedPacketError(ValueError):
    """Bytes from the network that are not the packet they claim to be; the receiver drops and counts them."""


class RtpPacket(NamedTuple):
    """One RTP packet without its padding, contributing sources and header extensions.

    An empty payload carries no audio but has used up its sequence number. `level` is how loud the audio is, in
    dB below overload (0 to 127, where 127 is digital silence), None where the sender does not say.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    marker: bool
    payload: bytes
    level: int | None = None


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram with the version bits of RTP is RTCP (RFC 5761 section 4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


def parse_rtp(data: bytes, level_id: int = 0) -> RtpPacket:
    """`level_id` is what was negotiated for the audio level (RFC 6464), 0 for nothing.

    Raises `MalformedPacketError`.
    """
    end = len(data)
    if end < _HEADER.size:
        raise MalformedPacketError(f"{end} bytes are shorter than an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first & 0xC0 != _VERSION_BITS:
        raise MalformedPacketError("the RTP version is not 2")
    start = _HEADER.size + 4 * (first & _CSRC_COUNT)
    level = None
    if first & _EXTENSION_BIT:
        begins = start + _EXTENSION.size
        if begins > end:
            raise MalformedPacketError("the RTP header extension is cut off")
        profile, words = _EXTENSION.unpack_from(data, start)
        start = begins + 4 * words
        if level_id and start <= end:
            element = find_extension(profile, data[begins:start], level_id)
            level = element[0] & 0x7F if element else None
    if first & _PADDING_BIT:
        if not 0 < data[-1] <= end - start:
            raise MalformedPacketError("the RTP padding exceeds the payload")
        end -= data[-1]
    if start > end:
        raise MalformedPacketError("the RTP headers exceed the packet")
    return RtpPacket(
        second & 0x7F, sequence, timestamp, ssrc, bool(second & _MARKER_BIT), bytes(data[start:end]), level
    )


def find_extension(profile: int, block: bytes, wanted_id: int) -> bytes | None:
    """The element of that id in a header extension of either form (RFC 8285 section 4), if it is there."""
    is_long = profile & 0xFFF0 == _TWO_BYTE_PROFILE
    if not is_long and profile != _ONE_BYTE_PROFILE:
        return None
    offset = 0
    while offset < len(block):
        element_id = block[offset] if is_long else block[offset] >> 4
        if element_id == 0:  # padding
            offset += 1
            continue
        if not is_long and element_id == _RESERVED_ID:
            return None
        if is_long:
            begins = offset + 2
            length = block[offset + 1] if begins <= len(block) else 0
        else:
            begins, length = offset + 1, (block[offset] & 0x0F) + 1
        if element_id == wanted_id:
            element = block[begins : begins + length]
            return element if len(element) == length else None
        offset = begins + length
    return None


def build_rtp(packet: RtpPacket, level_id: int = 0) -> bytes:
    """A packet with the plain 12-byte header; counters are taken modulo their width.

    Says its `level` if it has one and `level_id` was negotiated for it.
    """
    extension = b""
    if level_id and packet.level is not None:
        extension = _EXTENSION.pack(_ONE_BYTE_PROFILE, 1) + bytes((level_id << 4, packet.level & 0x7F, 0, 0))
    return (
        _HEADER.pack(
            _VERSION_BITS | (_EXTENSION_BIT if extension else 0),
            packet.payload_type | (_MARKER_BIT if packet.marker else 0),
            packet.sequence & 0xFFFF,
            packet.timestamp & 0xFFFFFFFF,
            packet.ssrc,
        )
        + extension
        + packet.payload
    )


def unwrap(value: int, near: int, bits: int) -> int:
    """The integer congruent to `value` modulo 2**bits that is closest to `near`; may be negative."""
    modulus = 1 << bits
    ahead = (value - near) % modulus
    return near + (ahead - modulus if ahead >= modulus // 2 else ahead)
