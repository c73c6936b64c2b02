"""What can be told of an Opus packet without decoding it (RFC 6716 section 3). Pure."""

from typing import Final

SILENCE: Final = bytes((0xF8, 0xFF, 0xFE))
"""20 ms of digital silence: CELT, fullband, mono."""

_SILK_SAMPLES: Final = (480, 960, 1920, 2880)
_HYBRID_SAMPLES: Final = (480, 960)
_CELT_SAMPLES: Final = (120, 240, 480, 960)
_MAX_PACKET_SAMPLES: Final = 5760


def packet_samples(packet: bytes) -> int:
    """Duration in samples at 48 kHz, up to 5760; 0 for bytes that are no Opus packet."""
    if not packet:
        return 0
    configuration, code = packet[0] >> 3, packet[0] & 3
    if configuration < 12:
        frame = _SILK_SAMPLES[configuration % 4]
    elif configuration < 16:
        frame = _HYBRID_SAMPLES[configuration % 2]
    else:
        frame = _CELT_SAMPLES[configuration % 4]
    samples = frame * _frame_count(code, packet)
    return samples if samples <= _MAX_PACKET_SAMPLES else 0


def _frame_count(code: int, packet: bytes) -> int:
    match code:
        case 0:
            return 1
        case 1 | 2:
            return 2
        case _:
            return packet[1] & 0x3F if len(packet) > 1 else 0
