"""A caller who says again what was recorded, to an agent that may take another time to answer.

recorded:  ...speech....|   reply   |....speech...
held again: ...speech...... |  reply   | ....speech...      waits for as many replies as there had been
"""

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import anyio

from voxthread.core.audio import PACKET_MS, REPLY_RATE_HZ, RTP_CLOCK_HZ, PcmFrame
from voxthread.media.playout import PlayoutQueue
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.inbox import Arrived
from voxthread.orchestrator.ports import OpusEncoder
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord, decode_audio, encode_audio, is_audio
from voxthread.wire.log import Bus, Record, Stream
from voxthread.wire.stamp import Fence, Stamp

PATIENCE_MS = 20_000
"""A reply that does not come is not waited for any longer."""

_LEAD_MS = 600
"""So long before speech is noticed nobody is in the middle of a word."""

_MAX_PAUSE_MS = 10_000
_TICKS_PER_MS = RTP_CLOCK_HZ // 1000
_CLOCK_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Await:
    """Go on when so many replies have begun, and so many are over."""

    begun: int
    over: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing comes in for so long, not even silence."""

    ms: int


Command = (
    facts.SessionOpened | facts.PeerConnected | facts.TextCommand | facts.InterruptCommand | facts.EndCommand
)
Cue = AudioRecord | Await | Pause | Command


def script_of(arrivals: Sequence[Arrived], onsets: Collection[int], stops: Collection[int]) -> list[Cue]:
    """What the caller did, in order. Speech was noticed at the positions `onsets`, its end at `stops`.

    Left out are the lines that were lost, and names, none of which the models see.
    """
    cues: list[Cue] = []
    begun: set[int] = set()
    over: set[int] = set()
    is_connected, silent_from = False, 0
    for arrived in arrivals:
        match arrived.content:
            case AudioRecord() as record:
                cues += _pause_before(cues, record)
                cues.append(record)
            case facts.PlayoutProgress(turn_id=turn_id, state=state):
                (over if state in {"drained", "flushed"} else begun).add(turn_id)
            case facts.TextCommand() | facts.InterruptCommand() | facts.EndCommand() as command:
                cues += [Await(len(begun), len(over)), command]
            case facts.SessionOpened() as opened:
                cues.append(opened)
            case facts.PeerConnected() as connected if not is_connected:
                is_connected = True
                cues.append(connected)
            case _:
                pass
        if arrived.position in onsets:
            cues.insert(max(silent_from, _lead(cues)), Await(len(begun), len(over)))
        if arrived.position in stops:
            silent_from = len(cues)
    if not any(isinstance(cue, facts.EndCommand) for cue in cues):
        cues += [Await(len(begun), len(begun)), facts.EndCommand(reason="recording_over")]
    return cues


def _pause_before(cues: Sequence[Cue], record: AudioRecord) -> list[Cue]:
    before = next((cue for cue in reversed(cues) if isinstance(cue, AudioRecord)), None)
    if before is None:
        return []
    ticks = (record.timestamp - before.timestamp) & _CLOCK_MASK
    pause_ms = ticks // _TICKS_PER_MS - before.duration_ms
    return [Pause(pause_ms)] if 0 < pause_ms <= _MAX_PAUSE_MS else []


def _lead(cues: Sequence[Cue]) -> int:
    """Where the audio before speech begins; not before what the caller has waited for already."""
    lead_ms = 0
    for index in range(len(cues) - 1, -1, -1):
        cue = cues[index]
        if lead_ms >= _LEAD_MS or not isinstance(cue, AudioRecord | Pause):
            return index + 1
        lead_ms += cue.duration_ms if isinstance(cue, AudioRecord) else cue.ms
    return 0


class RecordedCaller:
    """Acts the script on a log, and plays what it is answered as a media process does, to nobody."""

    def __init__(self, bus: Bus, session_id: str, script: Sequence[Cue], encoder: OpusEncoder) -> None:
        self._bus = bus
        self._session_id = session_id
        self._script = deque(script)
        self._stamp = Stamp(session_id, epoch=0)
        self._fence = Fence()
        self._playout = PlayoutQueue()
        self._begun: set[int] = set()
        self._over: set[int] = set()
        self._busy_ms = 0
        self._waited_ms = 0
        self._closed = anyio.Event()
        pcm = bytes(2 * REPLY_RATE_HZ * PACKET_MS // 1000)
        packets = encoder.encode(PcmFrame(pcm=pcm, rate_hz=REPLY_RATE_HZ)) + encoder.finish()
        self._silence = AudioRecord(epoch=0, seq=0, timestamp=0, packets=tuple(packets[:1]))

    async def run(self) -> None:
        """Until the session has ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            tasks.start_soon(self._tick)
            await self._closed.wait()
            tasks.cancel_scope.cancel()

    async def _listen(self) -> None:
        async with aclosing(self._bus.read(Stream.OUT, 0, 0)) as records:
            async for stored in records:
                value = stored.record.value
                record = decode_audio(value) if is_audio(value) else facts.decode_out_fact(value)
                if not self._fence.admits(record.epoch, record.seq):
                    continue
                if isinstance(record, AudioRecord):
                    self._playout.add(record)
                elif isinstance(record.fact, facts.CloseLeg):
                    self._closed.set()
                else:
                    self._playout.command(record.fact)

    async def _tick(self) -> None:
        due_ms = now_ms()
        while True:
            due_ms += PACKET_MS
            await anyio.sleep(max(0, due_ms - now_ms()) / 1000)
            await self._play()
            await self._act()

    async def _play(self) -> None:
        self._playout.next_packet()
        for report in self._playout.take_reports():
            (self._over if report.state in {"drained", "flushed"} else self._begun).add(report.turn_id)
            await self._append(self._stamp.in_fact(report))

    async def _act(self) -> None:
        """One tick of the script."""
        self._busy_ms -= PACKET_MS
        while self._busy_ms < PACKET_MS and self._script:
            cue = self._script[0]
            if isinstance(cue, Await) and not self._is_over(cue):
                self._waited_ms += PACKET_MS
                await self._say(self._silence)
                return
            self._script.popleft()
            self._waited_ms = 0
            match cue:
                case AudioRecord():
                    await self._say(cue)
                case Pause(ms=ms):
                    self._busy_ms += ms
                case Await():
                    pass
                case _:
                    await self._append(self._stamp.in_fact(cue))

    def _is_over(self, wait: Await) -> bool:
        is_met = len(self._begun) >= wait.begun and len(self._over) >= wait.over
        return is_met or self._waited_ms >= PATIENCE_MS

    async def _say(self, record: AudioRecord) -> None:
        self._busy_ms = max(0, self._busy_ms) + record.duration_ms
        value = encode_audio(replace(record, epoch=0, seq=self._stamp.take_seq()))
        await self._append(Record(self._session_id, value))

    async def _append(self, record: Record) -> None:
        await self._bus.append(Stream.IN, 0, record)
