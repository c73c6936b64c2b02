"""The little RTCP a call needs: reports and requests for lost packets (RFC 3550 section 6, RFC 4585). Pure.

NTP timestamps are 64 bits, 32.32 fixed point since 1900; "compact" is their middle 32 bits (16.16).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from voxthread.media.rtp import MalformedPacketError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
TRANSPORT_FEEDBACK: Final = 205

MAX_MISSING: Final = 64
"""Sequence numbers of one datagram that are looked at; nobody who listens can use more."""

_NTP_MINUS_UNIX_S: Final = 2_208_988_800
_COMMON = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IIIIII")
_BLOCK = struct.Struct("!IIIIII")
_SOURCES = struct.Struct("!II")
_LOST_RUN = struct.Struct("!HH")
_CNAME_ITEM: Final = 1
_GENERIC_NACK: Final = 1
_MAX_CUMULATIVE: Final = 0x7FFFFF


class ReportBlock(NamedTuple):
    """What a receiver says of one of its sources."""

    ssrc: int
    fraction_lost: float
    """Since the report before, 0 to 1, in steps of 1/256."""
    lost: int
    """Since the beginning, less what came twice."""
    highest_sequence: int
    """Extended to 32 bits."""
    jitter: int
    """Of the time between arrivals, in ticks of the RTP clock."""
    last_sr: int
    """Compact NTP time of the last sender report it got, 0 for none."""
    delay_since_last_sr: int
    """In 1/65536 s."""


class SenderTime(NamedTuple):
    """When a sender says it has written its report, compact."""

    ssrc: int
    compact_ntp: int


class Missing(NamedTuple):
    """A packet that its receiver asks for again."""

    ssrc: int
    sequence: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    unix_us: int
    rtp_timestamp: int
    packets: int
    payload_bytes: int


@dataclass(slots=True)
class Compound:
    """What one RTCP datagram says of what we know; the rest is skipped."""

    senders: list[SenderTime] = field(default_factory=list)
    blocks: list[ReportBlock] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    """At most `MAX_MISSING`."""


def ntp_time(unix_us: int) -> int:
    seconds, microseconds = divmod(unix_us, 1_000_000)
    return ((seconds + _NTP_MINUS_UNIX_S) << 32) | ((microseconds << 32) // 1_000_000)


def compact_ntp(unix_us: int) -> int:
    return (ntp_time(unix_us) >> 16) & 0xFFFFFFFF


def build_sender_report(report: SenderReport, blocks: Iterable[ReportBlock], cname: bytes) -> bytes:
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
    return _report(SENDER_REPORT, info, blocks) + _description(report.ssrc, cname)


def build_receiver_report(ssrc: int, blocks: Iterable[ReportBlock], cname: bytes) -> bytes:
    """The compound packet of one who has sent nothing."""
    return _report(RECEIVER_REPORT, ssrc.to_bytes(4), blocks) + _description(ssrc, cname)


def build_nack(ssrc: int, source: int, sequences: Iterable[int], cname: bytes) -> bytes:
    """A compound packet that asks `source` for packets again (RFC 4585 sections 3.1 and 6.2.1)."""
    runs = b"".join(_LOST_RUN.pack(first, mask) for first, mask in _runs(sequences))
    request = _COMMON.pack(0x80 | _GENERIC_NACK, TRANSPORT_FEEDBACK, 2 + len(runs) // 4)
    return build_receiver_report(ssrc, (), cname) + request + _SOURCES.pack(ssrc, source) + runs


def _report(kind: int, head: bytes, blocks: Iterable[ReportBlock]) -> bytes:
    body = [_pack_block(block) for block in blocks]
    return _COMMON.pack(0x80 | len(body), kind, (len(head) + 24 * len(body)) // 4) + head + b"".join(body)


def _pack_block(block: ReportBlock) -> bytes:
    lost = max(-_MAX_CUMULATIVE - 1, min(block.lost, _MAX_CUMULATIVE)) & 0xFFFFFF
    return _BLOCK.pack(
        block.ssrc,
        min(255, int(block.fraction_lost * 256)) << 24 | lost,
        block.highest_sequence & 0xFFFFFFFF,
        min(block.jitter, 0xFFFFFFFF),
        block.last_sr,
        min(block.delay_since_last_sr, 0xFFFFFFFF),
    )


def _description(ssrc: int, cname: bytes) -> bytes:
    chunk = struct.pack("!IBB", ssrc, _CNAME_ITEM, len(cname)) + cname
    chunk += bytes(4 - len(chunk) % 4)
    return _COMMON.pack(0x81, SOURCE_DESCRIPTION, len(chunk) // 4) + chunk


def _runs(sequences: Iterable[int]) -> Iterator[tuple[int, int]]:
    """A first sequence number each, and a bit for each of the 16 behind it."""
    rest = list(sequences)
    while rest:
        first, mask, later = rest[0] & 0xFFFF, 0, []
        for sequence in rest[1:]:
            distance = (sequence - first) & 0xFFFF
            if 1 <= distance <= 16:
                mask |= 1 << (distance - 1)
            else:
                later.append(sequence)
        yield first, mask
        rest = later


def parse_rtcp(data: bytes) -> Compound:
    """Raises `MalformedPacketError`."""
    compound = Compound()
    offset = 0
    while offset < len(data):
        if offset + _COMMON.size > len(data):
            raise MalformedPacketError("an RTCP header is cut off")
        first, kind, words = _COMMON.unpack_from(data, offset)
        end = offset + 4 + 4 * words
        if first & 0xC0 != 0x80 or end > len(data):
            raise MalformedPacketError("an RTCP packet does not fit its datagram")
        count, body = first & 0x1F, data[offset + 4 : end]
        if kind == SENDER_REPORT:
            if len(body) < _SENDER_INFO.size:
                raise MalformedPacketError("an RTCP sender report is cut off")
            ssrc, seconds, fraction, *_ = _SENDER_INFO.unpack_from(body)
            compound.senders.append(SenderTime(ssrc, (seconds & 0xFFFF) << 16 | fraction >> 16))
            compound.blocks += _parse_blocks(body, _SENDER_INFO.size, count)
        elif kind == RECEIVER_REPORT:
            compound.blocks += _parse_blocks(body, 4, count)
        elif kind == TRANSPORT_FEEDBACK and count == _GENERIC_NACK:
            _parse_nack(body, compound.missing)
        offset = end
    return compound


def _parse_blocks(body: bytes, start: int, count: int) -> Iterator[ReportBlock]:
    if start + count * _BLOCK.size > len(body):
        raise MalformedPacketError("an RTCP report block is cut off")
    for index in range(count):
        ssrc, lost, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, start + index * _BLOCK.size)
        cumulative = (lost & 0xFFFFFF) - ((lost & 0x800000) << 1)
        yield ReportBlock(ssrc, (lost >> 24) / 256, cumulative, highest, jitter, last_sr, delay)


def _parse_nack(body: bytes, missing: list[Missing]) -> None:
    if len(body) < _SOURCES.size:
        raise MalformedPacketError("an RTCP feedback packet is cut off")
    _, ssrc = _SOURCES.unpack_from(body)
    for offset in range(_SOURCES.size, len(body), _LOST_RUN.size):
        first, mask = _LOST_RUN.unpack_from(body, offset)
        for distance in range(17):
            if distance == 0 or mask >> (distance - 1) & 1:
                if len(missing) >= MAX_MISSING:
                    return
                missing.append(Missing(ssrc, (first + distance) & 0xFFFF))


def round_trip_ms(block: ReportBlock, arrival_unix_us: int) -> int | None:
    """RFC 3550 section 6.4.1; None when the peer has no report of ours yet or its figures are absurd."""
    if not block.last_sr:
        return None
    trip = (compact_ntp(arrival_unix_us) - block.last_sr - block.delay_since_last_sr) & 0xFFFFFFFF
    return round(trip * 1000 / 65536) if trip < 60 << 16 else None
