"""A partition this orchestrator owns: its sessions, recovered or new, and its place on `voxthread.in`."""

from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from voxthread.core.failures import BusError, SessionError
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED, BUS_RECORDS_MALFORMED
from voxthread.orchestrator.inbox import Arrived, Inbox
from voxthread.orchestrator.recovery import Opening, Recovered, recover
from voxthread.orchestrator.session import Host, Place, Session
from voxthread.wire.audio import MalformedRecordError, decode_audio, is_audio
from voxthread.wire.dead_letter import dead_letter
from voxthread.wire.facts import SessionOpened, decode_in_fact
from voxthread.wire.log import StoredRecord, Stream
from voxthread.wire.snapshots import PartitionProgress, encode_progress
from voxthread.wire.stamp import Fence

log = get_logger(__name__)

_PROGRESS_S = 1.0
_RETRY_S = 0.2


class _Line:
    """A session that runs here, and what its records must pass."""

    __slots__ = ("fence", "from_position", "inbox")

    def __init__(self, from_position: int) -> None:
        self.inbox = Inbox()
        self.from_position = from_position
        self.fence = Fence()


class OwnedPartition:
    """Serves one partition under one epoch until it is cancelled, which no record tells of."""

    def __init__(self, host: Host, partition: int, epoch: int, check_id: Callable[[str], None]) -> None:
        self._host = host
        self._partition = partition
        self._epoch = epoch
        self._check_id = check_id
        self._lines: dict[str, _Line] = {}
        self._closed: set[str] = set()
        self._position = 0
        """The next record of `voxthread.in`."""

    def __len__(self) -> int:
        return len(self._lines)

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            await self._recover(tasks)
            tasks.start_soon(self._keep_progress)
            await self._read(tasks)

    async def _recover(self, tasks: TaskGroup) -> None:
        recovery = await recover(self._host.bus, self._partition, self._host.turn)
        for session_id, recovered in recovery.sessions.items():
            self._start(session_id, recovered, recovered.snapshot.in_position + 1, tasks)
        self._closed = recovery.closed
        first = min([recovery.in_position, *(line.from_position for line in self._lines.values())])
        self._position = max(first, await self._host.bus.oldest(Stream.IN, self._partition))
        if recovery.sessions:
            log.info("partition.taken_over", partition=self._partition, sessions=len(recovery.sessions))

    async def _read(self, tasks: TaskGroup) -> None:
        while True:
            try:
                async for stored in self._host.bus.read(Stream.IN, self._partition, self._position):
                    await self._take(stored, tasks)
                    self._position = stored.position + 1
            except BusError as error:
                if not error.retryable:
                    raise
                log.warning("log.waiting", stream=Stream.IN, code=error.code, detail=error.detail)
                await anyio.sleep(_RETRY_S)

    async def _take(self, stored: StoredRecord, tasks: TaskGroup) -> None:
        try:
            self._route(stored, tasks)
        except SessionError as error:  # its key is no session id, of which the check has warned
            await self._dead_letter(stored, error.code)
        except MalformedRecordError as error:
            BUS_RECORDS_MALFORMED.labels(stream=Stream.IN).inc()
            log.warning("record.malformed", session_id=stored.record.key, reason=str(error))
            await self._dead_letter(stored, str(error))

    def _route(self, stored: StoredRecord, tasks: TaskGroup) -> None:
        record, position = stored.record, stored.position
        line = self._lines.get(record.key)
        if line is None:
            self._check_id(record.key)
        elif position < line.from_position:
            return
        if is_audio(record.value):
            audio = decode_audio(record.value)
            if line is not None and _admits(line, audio.epoch, audio.seq):
                line.inbox.put(Arrived(position, audio))
            return
        stamped = decode_in_fact(record.value)
        if stamped.session_id != record.key:
            raise MalformedRecordError("the record's session is not its key")
        if line is not None:
            if _admits(line, stamped.epoch, stamped.seq):
                line.inbox.put(Arrived(position, stamped.fact))
        elif isinstance(stamped.fact, SessionOpened) and record.key not in self._closed:
            line = self._start(record.key, Opening(position, stamped.fact), position + 1, tasks)
            line.fence.admits(stamped.epoch, stamped.seq)

    def _start(
        self, session_id: str, begin: Opening | Recovered, from_position: int, tasks: TaskGroup
    ) -> _Line:
        line = self._lines[session_id] = _Line(from_position)
        tasks.start_soon(self._run, session_id, begin, line.inbox)
        return line

    async def _run(self, session_id: str, begin: Opening | Recovered, inbox: Inbox) -> None:
        structlog.contextvars.bind_contextvars(
            session_id=session_id, frontend_session_id=begin.frontend_session_id or session_id
        )
        place = Place(session_id=session_id, partition=self._partition, epoch=self._epoch)
        try:
            await Session(self._host, begin, place, inbox).run()
        except Exception:  # the supervisor of sessions: one that crashes must not take the others along
            log.exception("session.crashed")
        finally:
            del self._lines[session_id]

    async def _keep_progress(self) -> None:
        """Say how far this has read, so that the next owner finds the sessions opened behind it."""
        written = -1
        while True:
            await anyio.sleep(_PROGRESS_S)
            position = self._position
            if position == written:
                continue
            progress = PartitionProgress(in_position=position, epoch=self._epoch)
            try:
                await self._host.bus.append(
                    Stream.STATE, self._partition, encode_progress(self._partition, progress)
                )
                written = position
            except BusError as error:
                log.warning("log.waiting", stream=Stream.STATE, code=error.code)

    async def _dead_letter(self, stored: StoredRecord, error: str) -> None:
        poison = dead_letter(stored, stream=Stream.IN, partition=self._partition, error=error)
        try:
            await self._host.bus.append(Stream.DLQ, 0, poison)
        except BusError as failure:
            log.warning("bus.append_failed", code=failure.code, stream=Stream.DLQ)


def _admits(line: _Line, epoch: int, seq: int) -> bool:
    if line.fence.admits(epoch, seq):
        return True
    BUS_RECORDS_FENCED.labels(stream=Stream.IN).inc()
    return False
