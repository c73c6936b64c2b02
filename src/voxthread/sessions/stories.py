"""Every session's story, told from the log: an index of where each one lies, and a reading of that stretch."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskStatus

from voxthread.core.events import ErrorOccurred, SessionClosed, SessionIdInvalid
from voxthread.core.failures import BusError, SessionError
from voxthread.core.story import SessionStory
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.sessions import errors
from voxthread.sessions.index import MARK_EVENTS, IndexedSession, SessionIndex
from voxthread.sessions.registry import SESSION_MAX_MS
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.events import Envelope, decode_event, is_public, parse_instant, principal_of
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.stamp import Fence

KEPT_ENDED: Final = 1_000
LOST: Final = "lost"
"""How a session ended that nobody closed within the longest a session may last."""

_RETRY_S = 1.0

log = get_logger(__name__)


class _Glance(msgspec.Struct):
    """What the index needs of an event."""

    type: str
    session_id: str
    frontend_session_id: str
    epoch: int
    seq: int
    at: str
    turn_id: int | None = None
    agent: str = ""
    via: str = ""
    reason: str = ""


_glance_decoder = msgspec.json.Decoder(_Glance)


class SessionStories:
    """`index` answers at once; `story` and `events` read the log. `run` is a task of the app."""

    def __init__(
        self, bus: Bus, *, kept_ended: int = KEPT_ENDED, now_ms: Callable[[], int] = clock.now_ms
    ) -> None:
        self.index = SessionIndex(kept_ended)
        self._bus = bus
        self._now_ms = now_ms
        self._fences: dict[str, Fence] = {}
        self._turns: dict[str, set[int]] = {}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Fold the events of all partitions, what is kept of the past first, until cancelled."""
        async with anyio.create_task_group() as readers:
            for partition in range(self._bus.partitions):
                oldest = await self._bus.oldest(Stream.EVENTS, partition)
                readers.start_soon(self._fold, partition, oldest)
            task_status.started()

    async def story(self, session: IndexedSession) -> SessionStory:
        """Raises `SessionError` `session_events_expired`, `BusError`."""
        story = SessionStory(session.session_id)
        async with aclosing(self._read(session, 0)) as events:
            async for _, envelope in events:
                story.add(envelope.event, envelope.at_ms, frontend_session_id=envelope.frontend_session_id)
        if not story.events:
            raise SessionError(
                errors.SESSION_EVENTS_EXPIRED, "the session has ended and its events are no longer kept"
            )
        return story

    async def events(self, session: IndexedSession, *, after_seq: int, limit: int) -> list[bytes]:
        """JSON of at most `limit` events after `after_seq`, in order, as they are on the log.

        Raises `BusError`.
        """
        found: list[bytes] = []
        async with aclosing(self._read(session, after_seq)) as events:
            async for value, _ in events:
                found.append(value)
                if len(found) == limit:
                    break
        return found

    async def _read(
        self, session: IndexedSession, after_seq: int
    ) -> AsyncGenerator[tuple[bytes, Envelope], None]:
        """The events known to the index; those of other sessions between them pass by."""
        last_position = session.last_position
        oldest = await self._bus.oldest(Stream.EVENTS, session.partition)
        position = max(oldest, session.position_before(after_seq + 1))
        if position > last_position:
            return
        fence = Fence()
        reading = self._bus.read(Stream.EVENTS, session.partition, position)
        async with aclosing(reading) as records:
            async for stored in records:
                if stored.position > last_position:
                    return
                if stored.record.key == session.session_id and is_public(stored.record):
                    envelope = _decode(stored)
                    if envelope and fence.admits(envelope.epoch, envelope.seq) and envelope.seq > after_seq:
                        yield stored.record.value, envelope
                if stored.position == last_position:
                    return

    async def _fold(self, partition: int, position: int) -> None:
        while True:
            try:
                async with aclosing(self._bus.read(Stream.EVENTS, partition, position)) as records:
                    async for stored in records:
                        if is_public(stored.record):
                            self._take(partition, stored)
                        position = stored.position + 1
            except BusError as error:
                log.warning("events.read_failed", partition=partition, code=error.code)
                await anyio.sleep(_RETRY_S)
                position = await self._kept(partition, position)

    async def _kept(self, partition: int, position: int) -> int:
        """Where to go on: at the oldest record if `position` is gone; nothing is folded twice."""
        try:
            oldest = await self._bus.oldest(Stream.EVENTS, partition)
            head = await self._bus.head(Stream.EVENTS, partition)
        except BusError:
            return position
        return position if oldest <= position <= head else oldest

    def _take(self, partition: int, stored: StoredRecord) -> None:
        try:
            glance = _glance_decoder.decode(stored.record.value)
            at_ms = parse_instant(glance.at)
        except ValueError:  # msgspec's errors are ValueErrors; the event hub counts and warns of the record
            return
        if glance.session_id != stored.record.key:
            return
        session = self.index.session(glance.session_id)
        if session is None:
            session = self._begin(glance, at_ms, partition, principal_of(stored.record))
        elif session.state == "ended":
            return
        if self._fences[glance.session_id].admits(glance.epoch, glance.seq):
            self._add(session, glance, at_ms, stored.position)

    def _begin(self, glance: _Glance, at_ms: int, partition: int, principal: str | None) -> IndexedSession:
        self._give_up_lost()
        session = IndexedSession(
            session_id=glance.session_id,
            partition=partition,
            created_at_ms=at_ms,
            principal=principal,
            frontend_session_id=glance.frontend_session_id,
            agent=glance.agent,
            via=glance.via,
        )
        self.index.add(session)
        self._fences[glance.session_id] = Fence()
        return session

    def _add(self, session: IndexedSession, glance: _Glance, at_ms: int, position: int) -> None:
        if session.events % MARK_EVENTS == 0:
            session.marks.append((glance.seq, position))
        session.events += 1
        session.last_at_ms, session.last_position = at_ms, position
        if glance.frontend_session_id != session.frontend_session_id:
            self.index.rename(session, glance.frontend_session_id)
        if glance.turn_id is not None:
            self._turns.setdefault(session.session_id, set()).add(glance.turn_id)
            session.turns = len(self._turns[session.session_id])
        match glance.type:
            case ErrorOccurred.TYPE | SessionIdInvalid.TYPE:
                session.warnings += 1
            case SessionClosed.TYPE:
                self._end(session, at_ms, glance.reason)
            case _:
                pass

    def _give_up_lost(self) -> None:
        """A session whose owner died and has no successor never says that it ended."""
        while (oldest := self.index.oldest_live()) is not None:
            if oldest.created_at_ms + SESSION_MAX_MS > self._now_ms():
                return
            self._end(oldest, oldest.last_at_ms, LOST)

    def _end(self, session: IndexedSession, at_ms: int, reason: str) -> None:
        self.index.end(session, at_ms, reason)
        self._fences.pop(session.session_id, None)
        self._turns.pop(session.session_id, None)


def _decode(stored: StoredRecord) -> Envelope | None:
    try:
        return decode_event(stored.record.value)
    except MalformedRecordError:
        return None
