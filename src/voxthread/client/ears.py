"""The caller's ear: decodes what arrives, and knows when there was sound."""

import anyio

from voxthread.client.levels import SoundLog, loud_span
from voxthread.client.recording import Track
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.core.audio import PACKET_MS
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.media.rtp import RtpPacket, unwrap
from voxthread.observability.clock import now_us

_SEQUENCE_BITS = 16
_TIMESTAMP_BITS = 32
_MAX_CONCEALED_PACKETS = 5
"""A longer hole stays silent: what a decoder invents after 100 ms is not speech."""


class Ears:
    """Packets in, in the order they arrive; one that comes behind its successor is lost, as to a player
    without a jitter buffer. A sample is heard as much after its packet's arrival as it lies behind its start.
    """

    def __init__(self, *, records: bool = False) -> None:
        self.sounds = SoundLog()
        self.track: Track | None = Track() if records else None
        self.received_packets = 0
        self.lost_packets = 0
        self.late_packets = 0
        self._decoder = OpusDecoder()
        self._ssrc: int | None = None
        self._sequence: int | None = None
        self._timestamp = 0
        self._next_sound = anyio.Event()

    def receive(self, packet: RtpPacket, arrival_us: int) -> None:
        if not packet.payload:
            return
        missing = self._missing_before(packet)
        if missing is None:
            self.late_packets += 1
            return
        self.received_packets += 1
        self.lost_packets += missing
        if 0 < missing <= _MAX_CONCEALED_PACKETS:
            concealed = self._decoder.conceal(missing * PACKET_MS, packet.payload)
            self._hear(concealed, arrival_us - missing * PACKET_MS * 1000, follows=True)
        follows = self._follows(packet.timestamp, missing)
        pcm = self._decoder.decode(packet.payload)
        self._timestamp += len(pcm) // 2 * 48_000 // CALL_RATE_HZ
        self._hear(pcm, arrival_us, follows=follows)

    async def sound_after(self, instant_us: int) -> int:
        """Wait for the first sound at or after an instant, and return when it was."""
        while (heard_us := self.sounds.first_after(instant_us)) is None:
            await self._next_sound.wait()
        return heard_us

    async def quiet(self, quiet_ms: int) -> None:
        """Wait until there was no sound for `quiet_ms`."""
        while self.sounds.last_us is not None:
            remaining_us = self.sounds.last_us + quiet_ms * 1000 - now_us()
            if remaining_us <= 0:
                return
            await anyio.sleep(remaining_us / 1_000_000)

    def _missing_before(self, packet: RtpPacket) -> int | None:
        """How many packets are missing before this one; None if it is late itself. A new source starts anew."""
        if packet.ssrc != self._ssrc or self._sequence is None:
            self._ssrc, self._sequence = packet.ssrc, packet.sequence
            return 0
        sequence = unwrap(packet.sequence, self._sequence, _SEQUENCE_BITS)
        missing = sequence - self._sequence - 1
        if missing < 0:
            return None
        self._sequence = sequence
        return missing

    def _follows(self, timestamp: int, missing: int) -> bool:
        """Whether a packet's audio starts where the one before it, or the concealment, ended."""
        expected = self._timestamp + missing * PACKET_MS * 48
        self._timestamp = unwrap(timestamp, expected, _TIMESTAMP_BITS)
        return self._timestamp == expected

    def _hear(self, pcm: bytes, heard_us: int, *, follows: bool) -> None:
        if self.track is not None:
            self.track.add(pcm, heard_us, follows=follows)
        sound = loud_span(pcm)
        if sound is None:
            return
        self.sounds.add(_later(heard_us, sound.first), _later(heard_us, sound.last))
        self._next_sound.set()
        self._next_sound = anyio.Event()


def _later(instant_us: int, samples: int) -> int:
    return instant_us + samples * 1_000_000 // CALL_RATE_HZ
