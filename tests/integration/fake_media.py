"""A media process without a network: a microphone that plays tones, and a playout that keeps what it played."""

from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import numpy as np

from voxthread.core.audio import PACKET_MS, PcmFrame
from voxthread.engines.codec.opus import OpusEncoder
from voxthread.media.playout import PlayoutQueue
from voxthread.observability.clock import now_ms
from voxthread.wire import facts
from voxthread.wire.audio import MalformedRecordError, decode_audio, is_audio
from voxthread.wire.facts import InFact, decode_out_fact
from voxthread.wire.log import Bus, Stream
from voxthread.wire.stamp import Fence, Stamp

RATE_HZ = 16_000
_BATCH_PACKETS = 3
_TICKS_PER_PACKET = 960


def tone_packets(tone_hz: int, duration_ms: int) -> list[bytes]:
    encoder = OpusEncoder(rate_hz=RATE_HZ)
    samples = np.arange(duration_ms * RATE_HZ // 1000)
    wave = (12_000 * np.sin(2 * np.pi * tone_hz / RATE_HZ * samples)).astype("<i2")
    frame = PcmFrame(pcm=wave.tobytes(), rate_hz=RATE_HZ)
    return encoder.encode(frame) + encoder.finish()


@dataclass
class FakeMedia:
    """One session's caller. `speak` queues a tone; everything played is kept by turn."""

    bus: Bus
    session_id: str
    partition: int
    played: dict[int, list[bytes]] = field(default_factory=dict)
    closed: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self._epoch = 0
        self._is_gone = False
        self._stamp = Stamp(self.session_id, epoch=self._epoch)
        self._fence = Fence()
        self._playout = PlayoutQueue()
        self._microphone: list[bytes] = []
        self._silence = tone_packets(0, 20)[0]
        self._batch: list[bytes] = []
        self._timestamp = 0
        self._turn_id = 0

    def die(self) -> None:
        """The process is gone with all it knew; what the caller says goes nowhere."""
        self._is_gone = True
        self._batch.clear()

    async def resume(self) -> None:
        """Another process has taken the session over, and the caller is back."""
        self._epoch += 1
        self._stamp, self._fence = Stamp(self.session_id, epoch=self._epoch), Fence()
        self._playout, self._timestamp, self._is_gone = PlayoutQueue(), 0, False
        await self.send(facts.LegResumed(media_id=f"media_{self._epoch}"))
        await self.send(facts.PeerConnected(receives_audio=True))

    def speak(self, packets: list[bytes]) -> None:
        self._microphone += packets

    async def send(self, fact: InFact) -> None:
        await self.bus.append(Stream.IN, self.partition, self._stamp.in_fact(fact))

    async def open(self, agent: str) -> None:
        await self.send(facts.SessionOpened(agent=agent, principal="test", via="whip", created_at_ms=now_ms()))
        await self.send(facts.PeerConnected(receives_audio=True))

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read)
            tasks.start_soon(self._tick)
            await self.closed.wait()
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        async with aclosing(self.bus.read(Stream.OUT, self.partition, 0)) as records:
            async for stored in records:
                if stored.record.key != self.session_id or self._is_gone:
                    continue
                value = stored.record.value
                try:
                    record = decode_audio(value) if is_audio(value) else decode_out_fact(value)
                except MalformedRecordError:
                    continue
                if not self._fence.admits(record.epoch, record.seq):
                    continue
                if isinstance(record, facts.OutRecord):
                    if isinstance(record.fact, facts.CloseLeg):
                        self.closed.set()
                    else:
                        self._playout.command(record.fact)
                else:
                    self._playout.add(record)

    async def _tick(self) -> None:
        due_ms = now_ms()
        while True:
            due_ms += PACKET_MS
            await anyio.sleep(max(0, due_ms - now_ms()) / 1000)
            if self._is_gone:
                continue
            packet = self._playout.next_packet()
            reports = self._playout.take_reports()
            for report in reports:
                if report.state == "playing":
                    self._turn_id = report.turn_id
            if packet is not None:
                self.played.setdefault(self._turn_id, []).append(packet)
            for report in reports:
                await self.send(report)
            await self._hear()

    async def _hear(self) -> None:
        self._batch.append(self._microphone.pop(0) if self._microphone else self._silence)
        if len(self._batch) == _BATCH_PACKETS:
            record = self._stamp.audio(tuple(self._batch), timestamp=self._timestamp)
            self._timestamp += len(self._batch) * _TICKS_PER_PACKET
            self._batch.clear()
            await self.bus.append(Stream.IN, self.partition, record)
