"""What an orchestrator makes of a caller's packets: heard by its own ear, and how each came to be heard."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from voxthread.client.levels import loud_span
from voxthread.core.audio import PcmFrame
from voxthread.core.speech import SpeechPolicy, SpeechSegmenter
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.media_bench.plan import PACKET_TICKS
from voxthread.orchestrator.ear import Ear
from voxthread.wire.audio import AudioRecord

_CELT: Final = 16
"""Configurations from here on have no SILK part, and no redundancy (RFC 6716 section 3.1)."""

_SEARCHED: Final = 150
"""Packets around its place in which one is looked for that is not there: 3 s each way."""


def has_redundancy(packet: bytes) -> bool:
    """Whether a mono 20 ms packet of one frame brings the packet before it along (RFC 6716 section 4.2.4)."""
    if len(packet) < 2 or packet[0] >> 3 >= _CELT or packet[0] & 3:
        return False
    return bool(packet[1] & 0x40)  # behind the one bit that tells voice


def sounding(track: Iterable[bytes]) -> list[bool]:
    """Which of a track's packets hold a sound above the level of silence."""
    decoder = OpusDecoder()
    return [loud_span(decoder.decode(packet)) is not None for packet in track]


class Placing:
    """Finds which of its caller's packets each one on the log is. Places on the log's timeline do not tell: a
    caller not heard for some time has silence there, and what comes later lies behind that."""

    def __init__(self, track: Sequence[bytes]) -> None:
        self._track = track
        self._ahead = 0

    def numbers(self, record: AudioRecord) -> list[int | None]:
        """Of each packet, and of each that never came where there is a hole; None for what no caller sent."""
        first = record.timestamp // PACKET_TICKS
        return [self._number(first + index, packet) for index, packet in enumerate(record.packets)]

    def _number(self, place: int, packet: bytes) -> int | None:
        number = place + self._ahead
        if not packet or self._is(number, packet):
            return number
        for distance in range(1, _SEARCHED):
            for candidate in (number - distance, number + distance):
                if self._is(candidate, packet):
                    self._ahead = candidate - place
                    return candidate
        return None

    def _is(self, number: int, packet: bytes) -> bool:
        return number >= 0 and self._track[number % len(self._track)] == packet


@dataclass(slots=True)
class Listened:
    """Numbers of a caller's packets: those that came, those made from the redundancy of the one behind, those
    that the decoder guessed. Of others it was not even told."""

    arrived: set[int] = field(default_factory=set)
    restored: set[int] = field(default_factory=set)
    guessed: set[int] = field(default_factory=set)
    pcm: dict[int, bytes] = field(default_factory=dict)
    """What was heard of each, 16 kHz s16le."""


def listen(records: Iterable[AudioRecord], track: Sequence[bytes]) -> Listened:
    """Hear the records of one session."""
    listened, placing = Listened(), Placing(track)
    decoder = _NotingDecoder(listened)
    ear = Ear(decoder, _NoVoice(), SpeechSegmenter(SpeechPolicy()))
    for position, record in enumerate(records):
        decoder.expect(placing.numbers(record))
        for _heard in ear.hear(record, position):
            pass
    return listened


class _NotingDecoder:
    """An orchestrator's decoder, and what it was asked for. It is asked once for each packet of a record."""

    def __init__(self, listened: Listened) -> None:
        self._listened = listened
        self._decoder = OpusDecoder()
        self._numbers: list[int | None] = []

    def expect(self, numbers: list[int | None]) -> None:
        self._numbers = numbers[::-1]

    def decode(self, packet: bytes) -> bytes:
        return self._noted(self._listened.arrived, self._decoder.decode(packet))

    def conceal(self, duration_ms: int, next_packet: bytes | None) -> bytes:
        is_restored = next_packet is not None and has_redundancy(next_packet)
        numbers = self._listened.restored if is_restored else self._listened.guessed
        return self._noted(numbers, self._decoder.conceal(duration_ms, next_packet))

    def _noted(self, numbers: set[int], pcm: bytes) -> bytes:
        number = self._numbers.pop()
        if number is not None:
            numbers.add(number)
            self._listened.pcm[number] = pcm
        return pcm


class _NoVoice:
    """No opinion, at no cost."""

    frame_samples = 320

    def probability(self, _frame: PcmFrame) -> float:
        return 0.0
