"""Audio on the log: a 24-byte prefix and length-prefixed Opus packets, no JSON and no base64.

     0       1        2        3       4            8            16                 20            24
     +-------+--------+--------+-------+------------+------------+------------------+-------------+
     |version| codec  |packet  | flags |   epoch    |    seq     | media timestamp  |   turn id   |
     |  u8   |  u8    |ms  u8  |  u8   |    u32     |    u64     | u32, 48 kHz      |    u32      |
     +-------+--------+--------+-------+------------+------------+------------------+-------------+
     then for each packet: u16 length, payload. A length of 0 is a hole: a packet that never came.

All integers are big-endian. The media timestamp is that of the first packet, in 48 kHz samples since the
session's audio began (`in`) or since the reply's first sample (`out`). `turn id` is 0 on `in`.
"""

import struct
from dataclasses import dataclass
from typing import Final

from voxthread.core.audio import PACKET_MS

AUDIO_VERSION: Final = 1
CODEC_OPUS: Final = 1
MAX_PACKET_BYTES: Final = 1275 * 3
"""RFC 6716 section 3.4 bounds a frame to 1275 bytes; a 60 ms packet holds three of them."""

_PREFIX = struct.Struct("!BBBBIQII")
_LENGTH = struct.Struct("!H")
assert _PREFIX.size == 24


class MalformedRecordError(ValueError):
    """Bytes on the log that are not a record this version reads; the reader dead-letters them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRecord:
    """Consecutive Opus packets of one session. An empty packet is a hole of `packet_ms`."""

    epoch: int
    seq: int
    timestamp: int
    packets: tuple[bytes, ...]
    turn_id: int = 0
    packet_ms: int = PACKET_MS

    @property
    def duration_ms(self) -> int:
        return len(self.packets) * self.packet_ms


def encode_audio(record: AudioRecord) -> bytes:
    parts = [
        _PREFIX.pack(
            AUDIO_VERSION,
            CODEC_OPUS,
            record.packet_ms,
            0,
            record.epoch,
            record.seq,
            record.timestamp & 0xFFFFFFFF,
            record.turn_id,
        )
    ]
    for packet in record.packets:
        if len(packet) > MAX_PACKET_BYTES:
            raise ValueError(f"an Opus packet of {len(packet)} bytes exceeds {MAX_PACKET_BYTES}")
        parts.append(_LENGTH.pack(len(packet)))
        parts.append(packet)
    return b"".join(parts)


def is_audio(value: bytes) -> bool:
    """Whether a record's value is audio; every other record is JSON and starts with a brace."""
    return value[:1] == bytes((AUDIO_VERSION,))


def decode_audio(value: bytes) -> AudioRecord:
    """Raises `MalformedRecordError`."""
    if len(value) < _PREFIX.size:
        raise MalformedRecordError(f"an audio record of {len(value)} bytes is shorter than its prefix")
    version, codec, packet_ms, _flags, epoch, seq, timestamp, turn_id = _PREFIX.unpack_from(value)
    if version != AUDIO_VERSION or codec != CODEC_OPUS or not packet_ms:
        raise MalformedRecordError(f"audio version {version}, codec {codec}, packets of {packet_ms} ms")
    packets: list[bytes] = []
    offset = _PREFIX.size
    while offset < len(value):
        if offset + _LENGTH.size > len(value):
            raise MalformedRecordError("an audio record ends inside a packet length")
        (length,) = _LENGTH.unpack_from(value, offset)
        offset += _LENGTH.size
        if length > MAX_PACKET_BYTES or offset + length > len(value):
            raise MalformedRecordError(f"a packet of {length} bytes does not fit its record")
        packets.append(value[offset : offset + length])
        offset += length
    return AudioRecord(
        epoch=epoch, seq=seq, timestamp=timestamp, packets=tuple(packets), turn_id=turn_id, packet_ms=packet_ms
    )
