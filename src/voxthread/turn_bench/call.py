"""One scene as a call: a microphone and a loudspeaker on the log, where a media process would be."""

from collections import deque
from dataclasses import dataclass, field

import anyio
import numpy as np

from voxthread.client.levels import loud_span
from voxthread.core import events
from voxthread.core.audio import PACKET_MS, RTP_CLOCK_HZ, SPEECH_RATE_HZ, PcmFrame
from voxthread.core.events import Event
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.engines.pcm import FloatSamples, to_float
from voxthread.media.playout import PlayoutQueue
from voxthread.turn_bench.scenes import Scene
from voxthread.turn_bench.sounds import samples_of, silence, to_pcm
from voxthread.turn_bench.virtual_time import now_ms
from voxthread.wire import facts
from voxthread.wire.audio import decode_audio, is_audio
from voxthread.wire.events import decode_event, is_public
from voxthread.wire.facts import decode_out_fact
from voxthread.wire.log import Bus, Stream
from voxthread.wire.stamp import Stamp

PARTITION = 0
LISTENING_AGENT = "listening"
TALKING_AGENT = "talking"

ANSWER_WITHIN_MS = 3_000
INTERRUPTED_WITHIN_MS = 2_000

_LEAD_MS = 600
_AROUND_MS = 200
_ECHO_MS = 6_000
"""How much of itself an agent hears in an echo scene."""

_PACKET_SAMPLES = samples_of(PACKET_MS)
_TICKS_PER_PACKET = RTP_CLOCK_HZ * PACKET_MS // 1000
_BATCH_PACKETS = 3
_GIVE_UP_MS = 30_000


@dataclass(slots=True)
class Heard:
    """What came of a scene. Instants are milliseconds since the call began."""

    speech_from_ms: int | None = None
    speech_to_ms: int | None = None
    sounding_ms: list[int] = field(default_factory=list)
    """Starts of the 20 ms in which the agent was audible."""
    events: list[tuple[int, Event]] = field(default_factory=list)
    line: bytearray = field(default_factory=bytearray)
    """What came out of the caller's line: s16le at 16 kHz, from the beginning of the call."""

    def speech(self) -> FloatSamples:
        """The caller's speech as it came out of the line, with a little of what is around it."""
        if self.speech_from_ms is None or self.speech_to_ms is None:
            return silence(0)
        span = slice(samples_of(self.speech_from_ms - _AROUND_MS), samples_of(self.speech_to_ms + _AROUND_MS))
        return to_float(bytes(self.line))[span]


class Call:
    """Caller and media process of one session, tick by tick of 20 ms."""

    def __init__(self, bus: Bus, session_id: str, scene: Scene) -> None:
        self._bus = bus
        self._scene = scene
        self._stamp = Stamp(session_id, epoch=0)
        self._began_ms = now_ms()
        self._heard = Heard()
        self._playout = PlayoutQueue()
        self._encoder = OpusEncoder(rate_hz=SPEECH_RATE_HZ)
        self._decoder = OpusDecoder()
        self._line = OpusDecoder()
        self._batch: list[bytes] = []
        self._sent_packets = 0
        echo = scene.line.echo
        self._agent_voice: deque[FloatSamples] = deque(
            [np.zeros(_PACKET_SAMPLES, np.float32)] * (echo.delay_ms // PACKET_MS if echo else 0)
        )
        self._closed = anyio.Event()

    async def run(self) -> Heard:
        head = await self._bus.head(Stream.OUT, PARTITION), await self._bus.head(Stream.EVENTS, PARTITION)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._play, head[0])
            tasks.start_soon(self._follow, head[1])
            await self._open()
            tick = 0
            while not self._is_over(tick * PACKET_MS):
                await self._tick(tick)
                tick += 1
                await anyio.sleep(max(0, self._began_ms + tick * PACKET_MS - now_ms()) / 1000)
            await self._tell(facts.EndCommand(reason="hung_up"))
            await self._closed.wait()
            tasks.cancel_scope.cancel()
        return self._heard

    async def _open(self) -> None:
        is_listening = self._scene.line.over_agent_ms is None
        await self._tell(
            facts.SessionOpened(
                agent=LISTENING_AGENT if is_listening else TALKING_AGENT,
                principal="bench",
                via="whip",
                created_at_ms=self._began_ms,
            )
        )
        await self._tell(facts.PeerConnected(receives_audio=True))

    def _is_over(self, at_ms: int) -> bool:
        """Once nothing can happen any more that a figure counts."""
        heard, line = self._heard, self._scene.line
        if at_ms >= _GIVE_UP_MS or self._closed.is_set():
            return True
        if line.is_silent:
            return bool(heard.sounding_ms) and at_ms >= heard.sounding_ms[0] + _ECHO_MS
        if heard.speech_to_ms is None or at_ms <= heard.speech_to_ms:
            return False
        if line.over_agent_ms is not None:
            return at_ms > heard.speech_to_ms + INTERRUPTED_WITHIN_MS
        is_answered = bool(heard.sounding_ms) and heard.sounding_ms[-1] > heard.speech_to_ms
        return is_answered or at_ms > heard.speech_to_ms + ANSWER_WITHIN_MS

    # -- the agent's voice -----------------------------------------------------------------------------

    async def _play(self, position: int) -> None:
        async for stored in self._bus.read(Stream.OUT, PARTITION, position):
            if stored.record.key != self._stamp.session_id:
                continue
            if is_audio(stored.record.value):
                self._playout.add(decode_audio(stored.record.value))
                continue
            fact = decode_out_fact(stored.record.value).fact
            if not isinstance(fact, facts.CloseLeg | facts.RewindPlayout):
                self._playout.command(fact)

    async def _follow(self, position: int) -> None:
        async for stored in self._bus.read(Stream.EVENTS, PARTITION, position):
            if stored.record.key == self._stamp.session_id and is_public(stored.record):
                event = decode_event(stored.record.value).event
                self._heard.events.append((now_ms() - self._began_ms, event))
                if isinstance(event, events.SessionClosed):
                    self._closed.set()

    async def _tick(self, tick: int) -> None:
        packet = self._playout.next_packet()
        agent = np.zeros(_PACKET_SAMPLES, np.float32)
        if packet:
            pcm = self._decoder.decode(packet)
            if loud_span(pcm) is not None:
                self._heard.sounding_ms.append(tick * PACKET_MS)
            agent = to_float(pcm)
        for report in self._playout.take_reports():
            await self._tell(report)
        self._agent_voice.append(agent)
        await self._send(tick, self._agent_voice.popleft())

    # -- the caller's microphone -----------------------------------------------------------------------

    async def _send(self, tick: int, echoed: FloatSamples) -> None:
        mixed = self._background(tick) + self._speech(tick)
        if (echo := self._scene.line.echo) is not None:
            mixed = mixed + echoed * np.float32(10 ** (echo.level_db / 20))
        packets = self._encoder.encode(PcmFrame(pcm=to_pcm(mixed), rate_hz=SPEECH_RATE_HZ))
        self._heard.line += b"".join(map(self._line.decode, packets))
        self._batch += packets
        if len(self._batch) >= (1 if self._playout.is_playing else _BATCH_PACKETS):
            timestamp = self._sent_packets * _TICKS_PER_PACKET
            batch, self._batch = tuple(self._batch), []
            self._sent_packets += len(batch)
            await self._bus.append(Stream.IN, PARTITION, self._stamp.audio(batch, timestamp=timestamp))

    def _background(self, tick: int) -> FloatSamples:
        start = tick * _PACKET_SAMPLES
        return self._scene.background.take(range(start, start + _PACKET_SAMPLES), mode="wrap")

    def _speech(self, tick: int) -> FloatSamples:
        """What a packet that leaves now holds of the speech: what was said while it was filled."""
        heard, speech = self._heard, self._scene.speech
        at_ms = tick * PACKET_MS
        if heard.speech_from_ms is None and self._begins(at_ms):
            heard.speech_from_ms = at_ms - PACKET_MS
            heard.speech_to_ms = heard.speech_from_ms + len(speech) * 1000 // SPEECH_RATE_HZ
        if heard.speech_from_ms is None:
            return np.zeros(_PACKET_SAMPLES, np.float32)
        start = samples_of(at_ms - PACKET_MS - heard.speech_from_ms)
        piece = speech[start : start + _PACKET_SAMPLES]
        return np.pad(piece, (0, _PACKET_SAMPLES - len(piece)))

    def _begins(self, at_ms: int) -> bool:
        line, sounding_ms = self._scene.line, self._heard.sounding_ms
        if line.is_silent:
            return False
        if line.over_agent_ms is None:
            return at_ms >= _LEAD_MS
        return bool(sounding_ms) and at_ms >= sounding_ms[0] + line.over_agent_ms

    async def _tell(self, fact: facts.InFact) -> None:
        await self._bus.append(Stream.IN, PARTITION, self._stamp.in_fact(fact))
