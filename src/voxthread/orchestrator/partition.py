"""A partition this orchestrator owns: its sessions, recovered or new, and its place on `voxthread.in`."""

from collections import OrderedDict
from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from voxthread.core.failures import BusError, SessionError
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED, BUS_RECORDS_MALFORMED
from voxthread.orchestrator.ear import decode_audible
from voxthread.orchestrator.inbox import Arrived, Inbox
from voxthread.orchestrator.log_writer import append_patiently, patiently
from voxthread.orchestrator.outages import Outages
from voxthread.orchestrator.probation import Probation
from voxthread.orchestrator.recovery import Opening, Recovered, Recovery, recover
from voxthread.orchestrator.session import Host, Place, Session
from voxthread.orchestrator.takeover import Takeover
from voxthread.sessions.invalid_ids import quote
from voxthread.wire.audio import AudioRecord, MalformedRecordError, is_audio
from voxthread.wire.dead_letter import dead_letter, is_retry
from voxthread.wire.facts import InRecord, SessionOpened, decode_in_fact
from voxthread.wire.log import POSITION_GONE, Record, StoredRecord, Stream
from voxthread.wire.snapshots import PartitionProgress, encode_progress
from voxthread.wire.stamp import Fence

log = get_logger(__name__)

_CLOSED_SESSIONS = 10_000
"""So many that have ended are remembered, lest a record that was stored twice opens one of them again."""

_LETTERS = 100
"""On their way to the dead letters: so many may be, before callers wait for the broker of another stream."""

_PROGRESS_S = 1.0
_RETRY_S = 0.2


class _Line:
    """A session that runs here, or is about to, and what its records must pass."""

    __slots__ = ("audio_position", "ended", "fence", "from_position", "inbox")

    def __init__(self, from_position: int, audio_position: int = 0) -> None:
        self.inbox = Inbox()
        self.from_position = from_position
        self.audio_position = audio_position
        """Older audio is not heard."""
        self.fence = Fence()
        self.ended = anyio.Event()


class OwnedPartition:
    """Serves one partition under one epoch until it is cancelled, which no record tells of.

    An orphan's owner has died: the sessions it leaves are judged (`core.attempts`) before they go on.
    """

    def __init__(
        self,
        host: Host,
        probation: Probation,
        partition: int,
        epoch: int,
        check_id: Callable[[str], None],
        *,
        is_orphan: bool,
    ) -> None:
        self._host = host
        self._probation = probation
        self._partition = partition
        self._epoch = epoch
        self._check_id = check_id
        self._is_orphan = is_orphan
        self._lines: dict[str, _Line] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._letters = anyio.Semaphore(_LETTERS)
        self._outages = Outages(host.now)
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
        recovery = await self._read_past()
        for session_id in recovery.closed:
            self._close(session_id)
        first = [recovery.in_position]
        async with anyio.create_task_group() as preparing:
            for session_id, past in recovery.sessions.items():
                first.append(past.snapshot.in_position + 1)
                preparing.start_soon(self._take_over, session_id, past, tasks)
        head = await self._head()
        self._admit_from(head)
        self._position = max(min(*first, head), await self._oldest())
        if recovery.sessions:
            log.info(
                "partition.taken_over",
                partition=self._partition,
                sessions=len(recovery.sessions),
                is_orphan=self._is_orphan,
            )

    async def _read_past(self) -> Recovery:
        while True:
            try:
                return await recover(self._host.bus, self._partition, self._host.turn)
            except BusError as error:
                # A record may expire between the question for the oldest and its reading.
                if not error.retryable and error.code not in POSITION_GONE:
                    raise
                log.warning("log.waiting", partition=self._partition, code=error.code, detail=error.detail)
                await anyio.sleep(_RETRY_S)

    async def _take_over(self, session_id: str, past: Recovered, tasks: TaskGroup) -> None:
        place = self._place(session_id)
        takeover = Takeover(self._host, self._probation, place, past, is_orphan=self._is_orphan)
        if not await takeover.prepare():
            self._close(session_id)
            return
        line = self._lines[session_id] = _Line(past.snapshot.in_position + 1, takeover.audio_position)
        tasks.start_soon(self._run_on, takeover, line, tasks)

    async def _read(self, tasks: TaskGroup) -> None:
        while True:
            try:
                async for stored in self._host.bus.read(Stream.IN, self._partition, self._position):
                    await self._take(stored, tasks)
                    self._position = stored.position + 1
            except BusError as error:
                await self._wait_for_log(error)

    async def _wait_for_log(self, error: BusError) -> None:
        """Raises what waiting does not mend. What is not kept any more, or was lost, is passed over."""
        if error.code in POSITION_GONE:
            was = self._position
            if error.code == "bus.position_lost":
                self._position = await self._head()
                self._admit_from(self._position)
            else:
                self._position = await self._oldest()
            log.error(
                "log.unread", partition=self._partition, code=error.code, at=was, goes_on_at=self._position
            )
        elif not error.retryable:
            raise error
        else:
            log.warning("log.waiting", stream=Stream.IN, code=error.code, detail=error.detail)
            await anyio.sleep(_RETRY_S)

    def _admit_from(self, position: int) -> None:
        """Sessions may have read further than a log reaches that has lost records; its next ones are news."""
        for line in self._lines.values():
            line.from_position = min(line.from_position, position)
            line.audio_position = min(line.audio_position, position)

    async def _head(self) -> int:
        return await patiently(Stream.IN, lambda: self._host.bus.head(Stream.IN, self._partition))

    async def _oldest(self) -> int:
        return await patiently(Stream.IN, lambda: self._host.bus.oldest(Stream.IN, self._partition))

    async def _take(self, stored: StoredRecord, tasks: TaskGroup) -> None:
        try:
            self._route(stored, tasks)
        except SessionError as error:  # its key is no session id, of which the check has warned
            await self._dead_letter(stored, error.code, tasks)
        except MalformedRecordError as error:
            BUS_RECORDS_MALFORMED.labels(stream=Stream.IN).inc()
            log.warning("record.malformed", session_id=quote(stored.record.key), reason=str(error))
            await self._dead_letter(stored, str(error), tasks)

    def _route(self, stored: StoredRecord, tasks: TaskGroup) -> None:
        record, position = stored.record, stored.position
        line = self._lines.get(record.key)
        if line is None:
            self._check_id(record.key)
        elif position < line.from_position:
            return
        if is_audio(record.value):
            audio = decode_audible(record.value)
            if line is not None and position >= line.audio_position and _admits(line, record, audio):
                line.inbox.put(Arrived(position, audio))
            return
        stamped = decode_in_fact(record.value)
        if stamped.session_id != record.key:
            raise MalformedRecordError("the record's session is not its key")
        if line is not None:
            if _admits(line, record, stamped):
                line.inbox.put(Arrived(position, stamped.fact))
        elif isinstance(stamped.fact, SessionOpened) and record.key not in self._closed:
            line = self._lines[record.key] = _Line(position + 1)
            line.fence.admits(stamped.epoch, stamped.seq)
            tasks.start_soon(self._run, record.key, Opening(position, stamped.fact), line)

    async def _run_on(self, takeover: Takeover, line: _Line, tasks: TaskGroup) -> None:
        await takeover.admit(tasks, line.ended)
        await self._run(takeover.place.session_id, takeover.past, line)
        await takeover.forgive()

    async def _run(self, session_id: str, begin: Opening | Recovered, line: _Line) -> None:
        structlog.contextvars.bind_contextvars(
            session_id=session_id, frontend_session_id=begin.frontend_session_id or session_id
        )
        try:
            await Session(self._host, begin, self._place(session_id), line.inbox, self._outages).run()
        except Exception:  # the supervisor of sessions: one that crashes must not take the others along
            log.exception("session.crashed")
        finally:
            line.ended.set()
            self._probation.leave(session_id)
            self._close(session_id)
            del self._lines[session_id]

    def _close(self, session_id: str) -> None:
        self._closed[session_id] = None
        if len(self._closed) > _CLOSED_SESSIONS:
            self._closed.popitem(last=False)

    def _place(self, session_id: str) -> Place:
        return Place(session_id=session_id, partition=self._partition, epoch=self._epoch)

    async def _keep_progress(self) -> None:
        """Say how far this has read, so that the next owner finds the sessions opened behind it; where nothing
        comes, find out whether the log is there."""
        written = -1
        while True:
            await anyio.sleep(_PROGRESS_S)
            position = self._position
            if position == written:
                if self._lines:
                    await self._outages.during(self._head())
                continue
            progress = encode_progress(
                self._partition, PartitionProgress(in_position=position, epoch=self._epoch)
            )
            try:
                await self._outages.during(
                    append_patiently(self._host.bus, Stream.STATE, self._partition, progress)
                )
                written = position
            except BusError as error:
                log.warning("bus.append_failed", code=error.code, stream=Stream.STATE)

    async def _dead_letter(self, stored: StoredRecord, error: str, tasks: TaskGroup) -> None:
        poison = dead_letter(
            stored, stream=Stream.IN, partition=self._partition, error=error, at_ms=self._host.now()
        )
        await self._letters.acquire()
        tasks.start_soon(self._put_aside, poison)

    async def _put_aside(self, poison: Record) -> None:
        try:
            await append_patiently(self._host.bus, Stream.DLQ, 0, poison)
        except BusError as failure:
            log.warning("bus.append_failed", code=failure.code, stream=Stream.DLQ)
        finally:
            self._letters.release()


def _admits(line: _Line, record: Record, content: AudioRecord | InRecord) -> bool:
    """What an operator wants to be dealt with again has been here before."""
    if is_retry(record) or line.fence.admits(content.epoch, content.seq):
        return True
    BUS_RECORDS_FENCED.labels(stream=Stream.IN).inc()
    return False
