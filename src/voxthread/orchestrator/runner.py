"""The orchestrator: reads the log, and gives each session on it a task of its own."""

from collections.abc import Callable, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from voxthread.core.failures import BusError, SessionError, SynthesisError
from voxthread.core.ids import Dialect
from voxthread.core.speech import SpeechPolicy
from voxthread.core.turn_state import TurnPolicy
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED, BUS_RECORDS_MALFORMED
from voxthread.orchestrator.inbox import Arrived
from voxthread.orchestrator.phrases import Phrases
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recovery import Opening, Recovered
from voxthread.orchestrator.session import Host, Session
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.audio import MalformedRecordError, decode_audio, is_audio
from voxthread.wire.dead_letter import dead_letter
from voxthread.wire.facts import SessionOpened, decode_in_fact
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.stamp import Fence

log = get_logger(__name__)

EPOCH = 0
"""Of a partition that nobody else can claim."""


class _Line:
    """A session that runs here, and the fence its records pass."""

    __slots__ = ("fence", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.fence = Fence()


class Orchestrator:
    """Owns every session whose partition it reads."""

    def __init__(
        self,
        bus: Bus,
        engines: Engines,
        *,
        invalid_ids: InvalidIds,
        turn: TurnPolicy,
        speech: SpeechPolicy,
        now: Callable[[], int],
    ) -> None:
        self._bus = bus
        self._invalid_ids = invalid_ids
        self._host = Host(
            bus=bus, engines=engines, phrases=Phrases(engines.tts), turn=turn, speech=speech, now=now
        )
        self._lines: dict[str, _Line] = {}

    @property
    def sessions(self) -> int:
        return len(self._lines)

    async def run(
        self, partitions: Iterable[int], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the partitions until cancelled; `started` once sessions that open from now on are heard."""
        await self._prepare_phrases()
        async with anyio.create_task_group() as tasks:
            for partition in partitions:
                head = await self._bus.head(Stream.IN, partition)
                tasks.start_soon(self._read, partition, head, tasks)
            task_status.started()

    async def _prepare_phrases(self) -> None:
        greetings = [agent.greeting for agent in self._host.engines.agents.values()]
        try:
            await self._host.phrases.prepare([*greetings, self._host.turn.apology])
        except* SynthesisError as failed:
            # Each is then synthesized when it is wanted.
            log.warning("phrases.not_prepared", errors=len(failed.exceptions))

    async def _read(self, partition: int, position: int, tasks: TaskGroup) -> None:
        async for stored in self._bus.read(Stream.IN, partition, position):
            try:
                self._route(stored, partition, tasks)
            except SessionError as error:  # its key is no session id, of which the check has warned
                await self._dead_letter(stored, partition, error.code)
            except MalformedRecordError as error:
                BUS_RECORDS_MALFORMED.labels(stream=Stream.IN).inc()
                log.warning("record.malformed", session_id=stored.record.key, reason=str(error))
                await self._dead_letter(stored, partition, str(error))

    def _route(self, stored: StoredRecord, partition: int, tasks: TaskGroup) -> None:
        record, position = stored.record, stored.position
        line = self._lines.get(record.key)
        if line is None:
            self._invalid_ids.check(record.key, component="orchestrator", dialect=Dialect.MEDIA)
        if is_audio(record.value):
            audio = decode_audio(record.value)
            if line is not None and self._admits(line, audio.epoch, audio.seq):
                line.session.inbox.put(Arrived(position, audio))
            return
        stamped = decode_in_fact(record.value)
        if stamped.session_id != record.key:
            raise MalformedRecordError("the record's session is not its key")
        if line is None:
            if isinstance(stamped.fact, SessionOpened):
                line = self._open(record.key, Opening(position, stamped.fact), partition, tasks)
                line.fence.admits(stamped.epoch, stamped.seq)
        elif self._admits(line, stamped.epoch, stamped.seq):
            line.session.inbox.put(Arrived(position, stamped.fact))

    def _admits(self, line: _Line, epoch: int, seq: int) -> bool:
        if line.fence.admits(epoch, seq):
            return True
        BUS_RECORDS_FENCED.labels(stream=Stream.IN).inc()
        return False

    def _open(self, session_id: str, begin: Opening | Recovered, partition: int, tasks: TaskGroup) -> _Line:
        session = Session(self._host, begin, session_id=session_id, partition=partition, epoch=EPOCH)
        line = self._lines[session_id] = _Line(session)
        tasks.start_soon(self._run, session_id, begin.opened, session)
        return line

    async def _run(self, session_id: str, opened: SessionOpened, session: Session) -> None:
        structlog.contextvars.bind_contextvars(
            session_id=session_id, frontend_session_id=opened.frontend_session_id or session_id
        )
        try:
            await session.run()
        except Exception:  # the supervisor of sessions: one that crashes must not take the others along
            log.exception("session.crashed")
        finally:
            del self._lines[session_id]

    async def _dead_letter(self, stored: StoredRecord, partition: int, error: str) -> None:
        poison = dead_letter(stored, stream=Stream.IN, partition=partition, error=error)
        try:
            await self._bus.append(Stream.DLQ, 0, poison)
        except BusError as failure:
            log.warning("bus.append_failed", code=failure.code, stream=Stream.DLQ)
