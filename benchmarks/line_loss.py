"""How much of a caller's voice a lossy line takes for good, in simulated time: with FEC alone, and with NACK.

    python benchmarks/line_loss.py speech.wav [--loss 0.1] [--seconds 300] [--seeds 5]

A caller's packets go through `Uplink` as they would at the media process: lost at random or in bursts, asked
for by `Asking`, sent again by `SentPackets` over the same line. What is then neither there nor in the
redundancy of the packet behind it is unrecovered: of all audio, and of speech alone, for encoders spend no
redundancy on pauses.
"""

import argparse
import heapq
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from voxthread.core.audio import PACKET_MS, PcmFrame
from voxthread.engines.codec.libopus import load_libopus
from voxthread.engines.codec.opus import OpusEncoder
from voxthread.media.asking import Asking
from voxthread.media.opus_packets import SILENCE
from voxthread.media.rtp import RtpPacket, unwrap
from voxthread.media.sent_packets import SentPackets
from voxthread.media.uplink import Batch, Uplink

SPEECH_RMS = 200
"""Of 16 bits: -44 dBFS."""
_PACKET_TICKS = PACKET_MS * 48
_NUMBER_BYTES = 4
"""Behind each packet, where only a decoder would mind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`burst` is the mean length of a run of losses (Gilbert), 1 for losses at random.

    A caller whose `round_trip_ms` is None does not answer NACKs.
    """

    loss: float
    burst: float = 1.0
    round_trip_ms: int | None = None
    jitter_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    packets: int
    lost_fraction: float
    resent_fraction: float
    unrecovered_fraction: float
    unrecovered_speech_fraction: float


@dataclass(frozen=True, slots=True)
class Voice:
    packets: Sequence[bytes]
    is_speech: Sequence[bool]


def encode(wav: Path, seconds: float) -> Voice:
    """The voice, again and again for so long."""
    samples, rate_hz = soundfile.read(wav, dtype="int16", always_2d=True)
    mono = np.resize(samples[:, 0], int(seconds * rate_hz))
    packets = OpusEncoder().encode(PcmFrame(pcm=mono.astype("<i2").tobytes(), rate_hz=rate_hz))
    frames = np.array_split(mono.astype(np.float64), len(packets))
    return Voice(packets, [bool(np.sqrt(np.mean(frame**2)) > SPEECH_RMS) for frame in frames])


def carry(voice: Voice, line: Line, seed: int) -> Outcome:
    """One call over the line, from its first packet to its last."""
    simulation = _Simulation(voice, line, seed)
    heard = simulation.run()
    unrecovered = [number for number in range(len(voice.packets)) if not heard[number]]
    speech = sum(voice.is_speech)
    return Outcome(
        packets=len(voice.packets),
        lost_fraction=simulation.lost / len(voice.packets),
        resent_fraction=simulation.sent.resent / len(voice.packets),
        unrecovered_fraction=len(unrecovered) / len(voice.packets),
        unrecovered_speech_fraction=sum(voice.is_speech[number] for number in unrecovered) / speech,
    )


class _Simulation:
    def __init__(self, voice: Voice, line: Line, seed: int) -> None:
        self.lost = 0
        self.sent = SentPackets()
        self._voice = voice
        self._line = line
        self._chance = Random(seed)
        self._is_down = False
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self._uplink = Uplink()
        self._asking = Asking()
        self._batches: list[Batch] = []

    def run(self) -> list[bool]:
        for number in range(len(self._voice.packets)):
            self._at(number * PACKET_MS, lambda now, number=number: self._send(number, now))  # type: ignore[misc]
            self._at(number * PACKET_MS + 7, self._tick)
        now_ms = 0
        while self._events:
            now_ms, _, happen = heapq.heappop(self._events)
            happen(now_ms)
        self._batches += self._uplink.end_source(now_ms)
        return self._heard()

    def _at(self, at_ms: int, happen: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (at_ms, next(self._order), happen))

    def _send(self, number: int, now_ms: int) -> None:
        self.sent.add(number, number.to_bytes(4), now_ms)
        is_lost = self._loses()
        self.lost += is_lost
        if not is_lost:
            self._at(now_ms + self._delay_ms(), lambda now: self._arrive(number, now))

    def _arrive(self, number: int, now_ms: int) -> None:
        payload = self._voice.packets[number] + number.to_bytes(_NUMBER_BYTES)
        packet = RtpPacket(111, number & 0xFFFF, number * _PACKET_TICKS & 0xFFFFFFFF, 1, False, payload)
        trip_ms = self._line.round_trip_ms
        if trip_ms is not None:
            self._asking.arrived(packet.sequence, now_ms, round_trip_ms=trip_ms)
            for sequence in self._asking.due(
                now_ms, round_trip_ms=trip_ms, jitter_ms=self._line.jitter_ms // 3
            ):
                if not self._loses():
                    asked = unwrap(sequence, number, 16)
                    self._at(now_ms + trip_ms // 2, lambda now, asked=asked: self._resend(asked, now))  # type: ignore[misc]
        self._batches += self._uplink.handle(packet, now_ms, batch_ms=60)

    def _resend(self, number: int, now_ms: int) -> None:
        if self.sent.again(number & 0xFFFF, now_ms) is not None and not self._loses():
            self._at(now_ms + self._delay_ms(), lambda now: self._arrive(number, now))

    def _tick(self, now_ms: int) -> None:
        self._batches += self._uplink.handle_deadline(now_ms + PACKET_MS, batch_ms=60)

    def _delay_ms(self) -> int:
        return (self._line.round_trip_ms or 0) // 2 + round(self._chance.random() * self._line.jitter_ms)

    def _loses(self) -> bool:
        if self._line.burst <= 1:
            return self._chance.random() < self._line.loss
        recover = 1 / self._line.burst
        change = recover if self._is_down else recover * self._line.loss / (1 - self._line.loss)
        if self._chance.random() < change:
            self._is_down = not self._is_down
        return self._is_down

    def _heard(self) -> list[bool]:
        """By packet, whether it came or could be rebuilt from the one behind it."""
        has_redundancy = load_libopus()["opus_packet_has_lbrr"]
        heard = [False] * len(self._voice.packets)
        for batch in self._batches:
            for before, payload in itertools.pairwise((SILENCE, *batch.packets)):
                if payload not in (b"", SILENCE):
                    number = int.from_bytes(payload[-_NUMBER_BYTES:])
                    heard[number] = True
                    if not before and has_redundancy(payload, len(payload)) > 0:
                        heard[number - 1] = True
        return heard


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wav", type=Path)
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    voice = encode(options.wav, options.seconds)
    lines = {
        "fec": Line(loss=options.loss),
        "fec, jitter 30": Line(loss=options.loss, jitter_ms=30),
        "fec, burst 3": Line(loss=options.loss, burst=3),
        "nack 20": Line(loss=options.loss, round_trip_ms=20),
        "nack 40": Line(loss=options.loss, round_trip_ms=40),
        "nack 20, jitter 30": Line(loss=options.loss, round_trip_ms=20, jitter_ms=30),
        "nack 20, burst 3": Line(loss=options.loss, round_trip_ms=20, burst=3),
    }
    for name, line in lines.items():
        outcomes = [asdict(carry(voice, line, seed)) for seed in range(options.seeds)]
        means = {key: round(float(np.mean([each[key] for each in outcomes])), 5) for key in outcomes[0]}
        print(json.dumps({"line": name, **means}))


if __name__ == "__main__":
    main()
