"""From the log to the sockets: one reader per partition, each event to the followers of its session only."""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import cast

import anyio
import msgspec
from anyio.abc import TaskStatus

from voxthread.core.events import ErrorOccurred, SessionClosed
from voxthread.core.failures import BusError, Failure
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED, BUS_RECORDS_MALFORMED
from voxthread.wire.events import EVENT_VERSION, is_public
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.stamp import Fence

RECENT_EVENTS = 512
"""Kept of each live session for sockets that come back; older ones are read from the log again."""

WAITING_EVENTS = 512
"""What one follower may lag behind: over 10 s of a lively conversation (measured about 40 events/s)."""

_RETRY_S = 1.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why no more events come, as a WebSocket close code (RFC 6455 section 7.4 and its registry)."""

    code: int
    reason: str


SESSION_OVER = Ending(1000, "the session is over")
RESTARTING = Ending(1012, "the server is restarting, come back with last_event_id")
TOO_SLOW = Ending(1013, "too slow, come back with last_event_id")


class _Place(msgspec.Struct):
    """What the hub needs to know of an event; the rest passes through as it is."""

    type: str
    session_id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class _PlacedEvent:
    position: int
    type: str
    epoch: int
    seq: int
    text: str


def error_text(failure: Failure, session_id: str | None = None) -> str:
    """An `error` that belongs to one socket: it is not on the log and has no `seq`."""
    return msgspec.json.encode(
        {
            "type": ErrorOccurred.TYPE,
            "v": EVENT_VERSION,
            "session_id": session_id,
            "code": failure.code,
            "stage": failure.stage,
            "retryable": failure.retryable,
            "message": failure.detail,
        }
    ).decode()


_place_decoder = msgspec.json.Decoder(_Place)


def _read_event(stored: StoredRecord) -> _PlacedEvent | None:
    """The public event in a record; None for a private record, and for a malformed one, which is counted."""
    record = stored.record
    if not is_public(record):
        return None
    try:
        place = _place_decoder.decode(record.value)
        if place.session_id != record.key:
            raise ValueError("the record's key is another session's")
        return _PlacedEvent(stored.position, place.type, place.epoch, place.seq, record.value.decode())
    except ValueError:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        BUS_RECORDS_MALFORMED.labels(Stream.EVENTS).inc()
        log.warning("event.malformed", position=stored.position)
        return None


class Following:
    """One socket's view of one session."""

    def __init__(
        self,
        older: AsyncGenerator[_PlacedEvent] | None,
        remembered: tuple[_PlacedEvent, ...],
        after_seq: int,
        waiting_events: int,
    ) -> None:
        self.ending = RESTARTING
        """Why `events` ended, once it has."""
        self._older = older
        self._remembered = remembered
        self._after_seq = after_seq
        self._send, self._receive = anyio.create_memory_object_stream[_PlacedEvent](waiting_events)

    async def events(self) -> AsyncGenerator[str]:
        """JSON of every event after the asked one, in order and without holes: first the past, then live.

        When the log no longer holds the session's beginning, an `error` event says so and the rest follows.
        """
        async with aclosing(self._all()) as events:
            async for event in events:
                if isinstance(event, Failure):
                    yield error_text(event)
                    continue
                if event.seq > self._after_seq:
                    yield event.text
                if event.type == SessionClosed.TYPE:
                    self.ending = SESSION_OVER
                    return

    async def _all(self) -> AsyncGenerator[_PlacedEvent | Failure]:
        if self._older is not None:
            try:
                async with aclosing(self._older) as older:
                    async for event in older:
                        yield event
            except BusError as error:
                yield error.failure
        for event in self._remembered:
            yield event
        try:
            async for event in self._receive:
                yield event
        except anyio.ClosedResourceError:
            return

    def offer(self, event: _PlacedEvent) -> None:
        """Queue a live event; a follower too slow to have room loses its following, never an event."""
        try:
            self._send.send_nowait(event)
        except anyio.WouldBlock:
            self.ending = TOO_SLOW
            self.close()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return

    def finish(self, ending: Ending) -> None:
        """No more live events; what is queued is still read."""
        if self.ending is not TOO_SLOW:
            self.ending = ending
        self._send.close()

    def close(self) -> None:
        self._send.close()
        self._receive.close()


class _Story:
    """A live session: where its events begin, the newest of them, and who follows."""

    __slots__ = ("_recent_limit", "fence", "first_position", "followers", "forgotten", "recent")

    def __init__(self, first_position: int | None, recent_limit: int) -> None:
        """`first_position`: no event of the session is before it; None if that is not known."""
        self.first_position = first_position or 0
        self.fence = Fence()
        self.recent: deque[_PlacedEvent] = deque()
        self.forgotten = first_position is None
        """Whether events before `recent` are on the log only."""
        self.followers: set[Following] = set()
        self._recent_limit = recent_limit

    def remember(self, event: _PlacedEvent) -> None:
        self.recent.append(event)
        if len(self.recent) > self._recent_limit:
            self.recent.popleft()
            self.forgotten = True

    def holds_all_after(self, seq: int) -> bool:
        return not self.forgotten or (bool(self.recent) and self.recent[0].seq <= seq + 1)


class EventHub:
    """Fans `voxthread.events` out. `run` is a task of the app; everything else is called on its loop."""

    def __init__(
        self, bus: Bus, *, recent_events: int = RECENT_EVENTS, waiting_events: int = WAITING_EVENTS
    ) -> None:
        self._bus = bus
        self._recent_events = recent_events
        self._waiting_events = waiting_events
        self._next_position = [0] * bus.partitions
        self._stories: dict[str, _Story] = {}
        self._reading = False

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled; started once the place to read from is known. Raises `BusError`."""
        for partition in range(self._bus.partitions):
            self._next_position[partition] = await self._bus.head(Stream.EVENTS, partition)
        try:
            async with anyio.create_task_group() as readers:
                for partition in range(self._bus.partitions):
                    readers.start_soon(self._read_partition, partition)
                self._reading = True
                task_status.started()
        finally:
            self._reading = False
            self.drain()

    def unready(self) -> str | None:
        """Why events would not arrive now (for `/readyz`), or None."""
        return None if self._reading else "the event log is not being read"

    def expect(self, session_id: str, partition: int) -> None:
        """A session was opened here and none of its events can be on the log before this moment.

        Sockets that join it are then served from memory; without it their first replay reads the whole
        partition.
        """
        if session_id not in self._stories:
            self._stories[session_id] = _Story(self._next_position[partition], self._recent_events)

    @contextmanager
    def follow(self, session_id: str, partition: int, after_seq: int) -> Iterator[Following]:
        """Follow a session from the event after `after_seq` on. No event falls between past and live."""
        story = self._stories.get(session_id)
        if story is None:
            # Opened before this process started, or closed: its beginning is somewhere on the log.
            story = self._stories[session_id] = _Story(None, self._recent_events)
        remembered = tuple(story.recent)
        older = None
        if not story.holds_all_after(after_seq):
            until = remembered[0].position if remembered else self._next_position[partition]
            older = self._reread(session_id, partition, story.first_position, until)
        following = Following(older, remembered, after_seq, self._waiting_events)
        story.followers.add(following)
        try:
            yield following
        finally:
            following.close()
            story.followers.discard(following)
            if not story.followers and not story.recent and self._stories.get(session_id) is story:
                del self._stories[session_id]

    def drain(self) -> None:
        """End every following; the sockets close with 1012 and come back to another process."""
        for story in self._stories.values():
            for following in story.followers:
                following.finish(RESTARTING)

    async def _read_partition(self, partition: int) -> None:
        while True:
            try:
                records = self._bus.read(Stream.EVENTS, partition, self._next_position[partition])
                async with aclosing(cast(AsyncGenerator[StoredRecord], records)) as following:
                    async for stored in following:
                        self._take(stored)
                        self._next_position[partition] = stored.position + 1
            except BusError as error:
                if not error.retryable:
                    raise
                log.warning("events.read_failed", partition=partition, code=error.code)
            await anyio.sleep(_RETRY_S)

    def _take(self, stored: StoredRecord) -> None:
        event = _read_event(stored)
        if event is None:
            return
        session_id = stored.record.key
        story = self._stories.get(session_id)
        if story is None:
            first_position = stored.position if event.seq == 1 else None
            story = self._stories[session_id] = _Story(first_position, self._recent_events)
        if not story.fence.admits(event.epoch, event.seq):
            BUS_RECORDS_FENCED.labels(Stream.EVENTS).inc()
            return
        story.remember(event)
        for following in story.followers:
            following.offer(event)
        if event.type == SessionClosed.TYPE:
            del self._stories[session_id]
            for following in story.followers:
                following.finish(SESSION_OVER)

    async def _reread(
        self, session_id: str, partition: int, first_position: int, until: int
    ) -> AsyncGenerator[_PlacedEvent]:
        """The session's events on the log before the position `until`. Raises `BusError`.

        Should `until - 1` be a hole at the end of the log, the next record ends the wait; that may be the
        session's next event, so nothing is held back.
        """
        if first_position >= until:
            return
        fence = Fence()
        records = self._bus.read(Stream.EVENTS, partition, first_position)
        async with aclosing(cast(AsyncGenerator[StoredRecord], records)) as reading:
            async for stored in reading:
                if stored.position >= until:
                    return
                if stored.record.key == session_id:
                    event = _read_event(stored)
                    if event is not None and fence.admits(event.epoch, event.seq):
                        yield event
                if stored.position == until - 1:
                    return
