"""Giving a reply: text from the agent, clause by clause to speech, packets to the log, never far ahead.

agent --deltas--> clauses --queue--> speech --packets--> voxthread.out
                                                 ^ waits while `MAX_AHEAD_MS` lie unplayed
"""

from collections.abc import AsyncIterator, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from structlog.contextvars import bind_contextvars

from voxthread.core.audio import PACKET_MS, RTP_CLOCK_HZ, PcmFrame
from voxthread.core.failures import AgentError, VoiceError
from voxthread.core.inputs import AudioSynthesized, ClausePlanned, Input, ReplyDelta, ReplyEnded, ReplyFailed
from voxthread.core.sentences import ClauseSplitter
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.log_writer import LogWriter
from voxthread.orchestrator.ports import OpusEncoder
from voxthread.orchestrator.streams import closing
from voxthread.wire.facts import ReplyEnded as ReplyEndedFact
from voxthread.wire.stamp import Stamp

log = get_logger(__name__)

MAX_AHEAD_MS = 2_000
"""Reply audio at the media process that was not played yet: enough to hide a takeover, little to flush."""

RECORD_PACKETS = 10
"""At most 200 ms of audio in a record."""

_CLAUSES_AHEAD = 4
_TICKS_PER_PACKET = RTP_CLOCK_HZ * PACKET_MS // 1000

Synthesize = Callable[[str], AsyncIterator[PcmFrame]]


class ReplyTask:
    """One reply on its way out. `commit` lets its audio go; `cancel` stops all of it at once."""

    def __init__(
        self,
        turn_id: int,
        *,
        encoder: OpusEncoder,
        out: LogWriter,
        stamp: Stamp,
        tell: Callable[[Input], None],
        is_committed: bool,
    ) -> None:
        self.turn_id = turn_id
        self._encoder = encoder
        self._out = out
        self._stamp = stamp
        self._tell = tell
        self._scope = anyio.CancelScope()
        self._committed = anyio.Event()
        self._sent_ms = 0
        self._played_ms = 0
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
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._plan, text, send)
            tasks.start_soon(self._speak, receive, synthesize)
        self._tell(ReplyEnded(turn_id=self.turn_id))
        await self._committed.wait()
        if self._sent_ms:
            await self._out.put(
                self._stamp.out_fact(ReplyEndedFact(turn_id=self.turn_id, total_ms=self._sent_ms))
            )

    async def _plan(self, text: AsyncIterator[str], clauses: MemoryObjectSendStream[str]) -> None:
        splitter = ClauseSplitter()
        async with clauses, closing(text) as deltas:
            try:
                async for delta in deltas:
                    self._tell(ReplyDelta(turn_id=self.turn_id, text=delta))
                    await self._send_clauses(splitter.feed(delta), clauses)
            except VoiceError:
                raise
            except Exception as error:  # an agent is its user's code and may raise anything
                log.exception("agent.failed")
                raise AgentError("agent.failed", f"the agent raised {type(error).__name__}") from error
            await self._send_clauses(splitter.finish(), clauses)

    async def _send_clauses(self, found: list[str], clauses: MemoryObjectSendStream[str]) -> None:
        for clause in found:
            self._tell(ClausePlanned(turn_id=self.turn_id, text=clause))
            await clauses.send(clause)

    async def _speak(self, clauses: MemoryObjectReceiveStream[str], synthesize: Synthesize) -> None:
        number = -1
        async with clauses:
            async for clause in clauses:
                number += 1
                async with closing(synthesize(clause)) as frames:
                    async for frame in frames:
                        await self._send(self._encoder.encode(frame), number)
            if number >= 0:
                await self._send(self._encoder.finish(), number)

    async def _send(self, packets: list[bytes], clause: int) -> None:
        for start in range(0, len(packets), RECORD_PACKETS):
            batch = tuple(packets[start : start + RECORD_PACKETS])
            duration_ms = len(batch) * PACKET_MS
            self._tell(AudioSynthesized(turn_id=self.turn_id, clause=clause, duration_ms=duration_ms))
            await self._committed.wait()
            await self._room_for(duration_ms)
            timestamp = self._sent_ms // PACKET_MS * _TICKS_PER_PACKET
            await self._out.put(self._stamp.audio(batch, timestamp=timestamp, turn_id=self.turn_id))
            self._sent_ms += duration_ms

    async def _room_for(self, duration_ms: int) -> None:
        while self._sent_ms + duration_ms - self._played_ms > MAX_AHEAD_MS:
            self._advanced = anyio.Event()
            await self._advanced.wait()


def _first(group: BaseExceptionGroup[VoiceError]) -> VoiceError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
