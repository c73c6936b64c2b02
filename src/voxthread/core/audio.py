"""Audio as values: what a frame is, and the units every other module counts in."""

from dataclasses import dataclass
from typing import NewType

Ms = NewType("Ms", int)
"""Whole milliseconds. Instants are Unix time, durations are plain differences."""

SPEECH_RATE_HZ = 16_000
"""Rate of everything that listens: VAD, end-of-turn model and speech-to-text."""

REPLY_RATE_HZ = 24_000
"""Rate at which replies are encoded; an Opus rate that holds a 22 kHz voice whole."""

RTP_CLOCK_HZ = 48_000
"""RTP clock of Opus whatever the audio inside (RFC 7587 section 4.1)."""

PACKET_MS = 20
"""Duration of one Opus packet on every wire (RFC 7587 section 4.2, the default ptime)."""

_SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PcmFrame:
    """Mono signed 16-bit little-endian samples.

    `start_ms` is the position of the first sample on the timeline of the stream the frame belongs to
    (the caller's audio since the session began, or the reply since its first sample).
    """

    pcm: bytes
    rate_hz: int
    start_ms: int = 0

    def __post_init__(self) -> None:
        if len(self.pcm) % _SAMPLE_BYTES:
            raise ValueError(f"PCM of {len(self.pcm)} bytes is not a whole number of 16-bit samples")

    @property
    def samples(self) -> int:
        return len(self.pcm) // _SAMPLE_BYTES

    @property
    def duration_ms(self) -> int:
        return self.samples * 1000 // self.rate_hz

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms
