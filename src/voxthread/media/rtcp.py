"""The little RTCP a call needs (RFC 3550 section 6): reports out, loss and round trip in. Pure.

NTP timestamps are 64 bits, 32.32 fixed point since 1900; "compact" is their middle 32 bits (16.16).
"""

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from voxthread.media.rtp import MalformedPacketError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202

_NTP_MINUS_UNIX_S: Final = 2_208_988_800
_COMMON = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IIIIII")
_BLOCK = struct.Struct("!IIIIII")
_CNAME_ITEM: Final = 1


class ReportBlock(NamedTuple):
    """What a receiver says of one of its sources."""

    ssrc: int
    fraction_lost: float
    last_sr: int
    """Compact NTP time of the last sender report it got, 0 for none."""
    delay_since_last_sr: int
    """In 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    unix_us: int
    rtp_timestamp: int
    packets: int
    payload_bytes: int


def ntp_time(unix_us: int) -> int:
    seconds, microseconds = divmod(unix_us, 1_000_000)
    return ((seconds + _NTP_MINUS_UNIX_S) << 32) | ((microseconds << 32) // 1_000_000)


def compact_ntp(unix_us: int) -> int:
    return (ntp_time(unix_us) >> 16) & 0xFFFFFFFF


def build_sender_report(report: SenderReport, cname: bytes) -> bytes:
    """A compound packet: the report, then the CNAME that RFC 3550 section 6.1 demands."""
    ntp = ntp_time(report.unix_us)
    info = _SENDER_INFO.pack(
        report.ssrc,
        ntp >> 32,
        ntp & 0xFFFFFFFF,
        report.rtp_timestamp & 0xFFFFFFFF,
        report.packets & 0xFFFFFFFF,
        report.payload_bytes & 0xFFFFFFFF,
    )
    chunk = struct.pack("!IBB", report.ssrc, _CNAME_ITEM, len(cname)) + cname
    chunk += bytes(4 - len(chunk) % 4)
    return (
        _COMMON.pack(0x80, SENDER_REPORT, len(info) // 4)
        + info
        + _COMMON.pack(0x81, SOURCE_DESCRIPTION, len(chunk) // 4)
        + chunk
    )


def parse_report_blocks(data: bytes) -> list[ReportBlock]:
    """The report blocks of a compound packet's sender and receiver reports; other packets are skipped.

    Raises `MalformedPacketError`.
    """
    blocks: list[ReportBlock] = []
    offset = 0
    while offset < len(data):
        if offset + _COMMON.size > len(data):
            raise MalformedPacketError("an RTCP header is cut off")
        first, kind, words = _COMMON.unpack_from(data, offset)
        end = offset + 4 + 4 * words
        if first & 0xC0 != 0x80 or end > len(data):
            raise MalformedPacketError("an RTCP packet does not fit its datagram")
        body = offset + 8 if kind == RECEIVER_REPORT else offset + 4 + _SENDER_INFO.size
        if kind in (SENDER_REPORT, RECEIVER_REPORT):
            for index in range(first & 0x1F):
                start = body + index * _BLOCK.size
                if start + _BLOCK.size > end:
                    raise MalformedPacketError("an RTCP report block is cut off")
                ssrc, lost, _highest, _jitter, last_sr, delay = _BLOCK.unpack_from(data, start)
                blocks.append(ReportBlock(ssrc, (lost >> 24) / 256, last_sr, delay))
        offset = end
    return blocks


def round_trip_ms(block: ReportBlock, arrival_unix_us: int) -> int | None:
    """RFC 3550 section 6.4.1; None when the peer has no report of ours yet or its figures are absurd."""
    if not block.last_sr:
        return None
    trip = (compact_ntp(arrival_unix_us) - block.last_sr - block.delay_since_last_sr) & 0xFFFFFFFF
    return round(trip * 1000 / 65536) if trip < 60 << 16 else None
