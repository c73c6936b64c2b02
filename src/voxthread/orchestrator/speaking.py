"""Giving a reply: text from the agent, clause by clause to speech, packets to the log, never far ahead.

agent --deltas--> clauses --queue--> speech --packets--> voxthread.out
                                                 ^ waits while `MAX_AHEAD_MS` lie unplayed
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from structlog.contextvars import bind_contextvars

from voxthread.core.audio import PACKET_MS, RTP_CLOCK_HZ, PcmFrame
from voxthread.core.encoding import Encoding
from voxthread.core.failures import AgentError, VoiceError
from voxthread.core.inputs import AudioSynthesized, ClausePlanned, Input, ReplyDelta, ReplyEnded, ReplyFailed
from voxthread.core.playout import Clause
from voxthread.core.sentences import ClauseSplitter
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.echo import OwnVoice
from voxthread.orchestrator.lead_in import without_lead_in
from voxthread.orchestrator.log_writer import LogWriter
from voxthread.orchestrator.ports import OpusEncoder
from voxthread.orchestrator.streams import closing
from voxthread.wire.facts import ReplyEnded as ReplyEndedFact
from voxthread.wire.facts import RewindPlayout
from voxthread.wire.stamp import Stamp

log = get_logger(__name__)

MAX_AHEAD_MS = 2_000
"""Reply audio at the media process that was not played yet: enough to hide a takeover, little to flush."""

RECORD_PACKETS = 10
"""At most 200 ms of audio in a record."""

_CLAUSES_AHEAD = 4
_TICKS_PER_PACKET = RTP_CLOCK_HZ * PACKET_MS // 1000

Synthesize = Callable[[str], AsyncIterator[PcmFrame]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How far a reply had come with an owner that is gone; nothing of it is told or sent again."""

    generated_chars: int = 0
    clauses: tuple[Clause, ...] = ()
    sent_ms: int = 0
    """Audio of it on `voxthread.out`."""
    played_ms: int = 0

    @property
    def synthesized_ms(self) -> int:
        return sum(clause.duration_ms for clause in self.clauses)

    def sent_whole(self, number: int) -> int | None:
        """Where the audio of a clause ends, if all of it was sent."""
        if number >= len(self.clauses) or not self.clauses[number].is_done:
            return None
        end_ms = sum(clause.duration_ms for clause in self.clauses[: number + 1])
        return end_ms if end_ms <= self.sent_ms else None


NOTHING = Known()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filler:
    """Said first if the agent has not begun `after_ms` after it was asked; part of the reply from then on."""

    text: str
    after_ms: int


class ReplyTask:
    """One reply on its way out. `commit` lets its audio go; `cancel` stops all of it at once.

    A reply that somebody else began (`known`) is generated and synthesized anew, which gives the same text and
    the same samples, and goes on behind what was sent. If the text comes out otherwise this time, the reply
    ends with the clauses that were planned: it may be shorter, but says nothing twice.
    """

    def __init__(
        self,
        turn_id: int,
        *,
        encoder: OpusEncoder,
        out: LogWriter,
        stamp: Stamp,
        tell: Callable[[Input], None],
        is_committed: bool,
        known: Known = NOTHING,
        filler: Filler | None = None,
    ) -> None:
        self.turn_id = turn_id
        self._filler = filler
        self._begun = anyio.Event()
        self._encoder = encoder
        self.voice = OwnVoice()
        self._out = out
        self._stamp = stamp
        self._tell = tell
        self._scope = anyio.CancelScope()
        self._committed = anyio.Event()
        self._known = known
        self._generated_chars = 0
        self._planned_clauses = 0
        self._made_ms = 0
        self._sent_ms = known.sent_ms
        self._played_ms = known.played_ms
        self._sent: list[bytes] = []
        """Every packet sent by this task, to be sent again if the caller could not hear them."""
        self._has_told_end = False
        self._order = anyio.Lock()
        """What is sent again stays together: media takes audio of a turn in its order only."""
        self._advanced = anyio.Event()
        if is_committed:
            self._committed.set()

    def commit(self) -> None:
        self._committed.set()

    def cancel(self) -> None:
        self._scope.cancel()

    def played(self, played_ms: int) -> None:
        self._played_ms = max(self._played_ms, played_ms)
        self._advanced.set()

    def tune(self, encoding: Encoding) -> None:
        """Encode what is not encoded yet for another line."""
        self._encoder.tune(encoding)

    def has_sent_since(self, to_ms: int) -> bool:
        """Whether all from `to_ms` on can be sent again; what an owner before sent cannot."""
        return to_ms >= self._sent_ms - len(self._sent) * PACKET_MS

    async def rewind(self, to_ms: int) -> None:
        """Send everything from `to_ms` on once more, to a media process that has lost it."""
        async with self._order:
            self._played_ms = to_ms
            await self._out.put(self._stamp.out_fact(RewindPlayout(turn_id=self.turn_id, to_ms=to_ms)))
            again = self._sent[len(self._sent) - (self._sent_ms - to_ms) // PACKET_MS :]
            for start in range(0, len(again), RECORD_PACKETS):
                await self._put_audio(tuple(again[start : start + RECORD_PACKETS]), to_ms + start * PACKET_MS)
            if self._has_told_end:
                await self._put_end()
        self._advanced.set()

    async def run(self, text: AsyncIterator[str], synthesize: Synthesize) -> None:
        """Ends with `ReplyEnded` or `ReplyFailed` told, or with neither when cancelled."""
        bind_contextvars(turn_id=self.turn_id)
        with self._scope:
            try:
                await self._give(text, synthesize)
            except* VoiceError as failed:
                error = _first(failed)
                log.warning("reply.failed", code=error.code, stage=error.stage, detail=error.detail)
                self._tell(ReplyFailed(turn_id=self.turn_id, failure=error.failure))

    async def _give(self, text: AsyncIterator[str], synthesize: Synthesize) -> None:
        send, receive = anyio.create_memory_object_stream[str](_CLAUSES_AHEAD)
        async with send, receive, anyio.create_task_group() as tasks:
            if self._filler is not None:
                await self._fill_first(self._filler, send, tasks)
            tasks.start_soon(self._plan, text, send)
            tasks.start_soon(self._speak, receive, synthesize)
        self._tell(ReplyEnded(turn_id=self.turn_id))
        await self._committed.wait()
        if self._sent_ms:
            async with self._order:
                self._has_told_end = True
                await self._put_end()

    async def _fill_first(self, filler: Filler, clauses: MemoryObjectSendStream[str], tasks: TaskGroup) -> None:
        """A reply that somebody else began with the filler begins with it again, and with none if not."""
        if not self._known.clauses:
            tasks.start_soon(self._fill, filler, clauses)
        elif self._known.clauses[0].text == filler.text:
            await self._say_filler(filler, clauses)

    async def _fill(self, filler: Filler, clauses: MemoryObjectSendStream[str]) -> None:
        with anyio.move_on_after(filler.after_ms / 1000):
            await self._begun.wait()
        if not self._begun.is_set():
            await self._say_filler(filler, clauses)

    async def _say_filler(self, filler: Filler, clauses: MemoryObjectSendStream[str]) -> None:
        """The clause first: by it a successor knows the text for the filler's."""
        await self._send_clauses([filler.text], clauses)
        self._tell_delta(f"{filler.text} ")

    async def _plan(self, text: AsyncIterator[str], clauses: MemoryObjectSendStream[str]) -> None:
        splitter = ClauseSplitter()
        async with clauses, closing(text) as deltas:
            try:
                async for delta in deltas:
                    self._begun.set()
                    self._tell_delta(delta)
                    if not await self._send_clauses(splitter.feed(delta), clauses):
                        break
                else:
                    await self._send_clauses(splitter.finish(), clauses)
            except VoiceError:
                raise
            except Exception as error:  # an agent is its user's code and may raise anything
                log.exception("agent.failed")
                raise AgentError("agent.failed", f"the agent raised {type(error).__name__}") from error
            self._begun.set()  # an agent with nothing to say needs no filler
            for clause in self._known.clauses[self._planned_clauses :]:
                await clauses.send(clause.text)

    def _tell_delta(self, delta: str) -> None:
        told = delta[max(0, self._known.generated_chars - self._generated_chars) :]
        self._generated_chars += len(delta)
        if told:
            self._tell(ReplyDelta(turn_id=self.turn_id, text=told))

    async def _send_clauses(self, found: list[str], clauses: MemoryObjectSendStream[str]) -> bool:
        """Whether the text is (still) what it was when somebody else began the reply."""
        for clause in found:
            if self._planned_clauses >= len(self._known.clauses):
                self._tell(ClausePlanned(turn_id=self.turn_id, text=clause))
            elif clause != self._known.clauses[self._planned_clauses].text:
                log.warning("reply.deviates", clause=self._planned_clauses)
                return False
            self._planned_clauses += 1
            await clauses.send(clause)
        return True

    async def _speak(self, clauses: MemoryObjectReceiveStream[str], synthesize: Synthesize) -> None:
        number = -1
        async with clauses:
            async for clause in clauses:
                number += 1
                if (sent_ms := self._known.sent_whole(number)) is not None:
                    self._made_ms = sent_ms
                    continue
                spoken = synthesize(clause)
                async with closing(without_lead_in(spoken) if number == 0 else spoken) as frames:
                    async for frame in frames:
                        await self._send(self._encoder.encode(frame), number)
            if number >= 0:
                await self._send(self._encoder.finish(), number)

    async def _send(self, packets: list[bytes], clause: int) -> None:
        for start in range(0, len(packets), RECORD_PACKETS):
            batch = packets[start : start + RECORD_PACKETS]
            began_ms, self._made_ms = self._made_ms, self._made_ms + len(batch) * PACKET_MS
            self.voice.made(batch, self._made_ms)
            new_ms = self._made_ms - max(began_ms, self._known.synthesized_ms)
            if new_ms > 0:
                self._tell(AudioSynthesized(turn_id=self.turn_id, clause=clause, duration_ms=new_ms))
            unsent = tuple(batch[max(0, self._known.sent_ms - began_ms) // PACKET_MS :])
            if unsent:
                await self._committed.wait()
                await self._room_for(len(unsent) * PACKET_MS)
                async with self._order:
                    await self._put_audio(unsent, self._sent_ms)
                    self._sent += unsent
                    self._sent_ms += len(unsent) * PACKET_MS

    async def _put_audio(self, packets: tuple[bytes, ...], began_ms: int) -> None:
        timestamp = began_ms // PACKET_MS * _TICKS_PER_PACKET
        await self._out.put(self._stamp.audio(packets, timestamp=timestamp, turn_id=self.turn_id))

    async def _put_end(self) -> None:
        await self._out.put(self._stamp.out_fact(ReplyEndedFact(turn_id=self.turn_id, total_ms=self._sent_ms)))

    async def _room_for(self, duration_ms: int) -> None:
        while self._sent_ms + duration_ms - self._played_ms > MAX_AHEAD_MS:
            self._advanced = anyio.Event()
            await self._advanced.wait()


def _first(group: BaseExceptionGroup[VoiceError]) -> VoiceError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
