"""From the log to the sockets: one reader per partition, each event to the followers of its session only."""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import anyio
from anyio.abc import TaskStatus

from voxthread.core.events import SessionClosed
from voxthread.core.failures import BusError
from voxthread.gateway.following import RESTARTING, SESSION_OVER, Following, PlacedEvent, read_event
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.stamp import Fence

RECENT_EVENTS = 512
"""Kept of each live session for sockets that come back; older ones are read from the log again."""

WAITING_EVENTS = 512
"""What one follower may lag behind: 10 s at 50 events a second."""

_RETRY_S = 1.0

log = get_logger(__name__)


class _Story:
    """A live session: where its events begin, the newest of them, and who follows."""

    __slots__ = ("_recent_limit", "fence", "first_position", "followers", "forgotten", "recent")

    def __init__(self, first_position: int | None, recent_limit: int) -> None:
        """`first_position`: no event of the session is before it; None if that is not known."""
        self.first_position = first_position
        self.fence = Fence()
        self.recent: deque[PlacedEvent] = deque()
        self.forgotten = first_position is None
        """Whether events before `recent` are on the log only."""
        self.followers: set[Following] = set()
        self._recent_limit = recent_limit

    def remember(self, event: PlacedEvent) -> None:
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
                async with aclosing(records) as following:
                    async for stored in following:
                        self._take(stored)
                        self._next_position[partition] = stored.position + 1
            except BusError as error:
                if not error.retryable:
                    raise
                log.warning("events.read_failed", partition=partition, code=error.code)
            await anyio.sleep(_RETRY_S)

    def _take(self, stored: StoredRecord) -> None:
        event = read_event(stored)
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
        self, session_id: str, partition: int, first_position: int | None, until: int
    ) -> AsyncGenerator[PlacedEvent]:
        """The session's events on the log before the position `until`. Raises `BusError`.

        Should `until - 1` be a hole at the end of the log, the next record ends the wait; that may be the
        session's next event, so nothing is held back.
        """
        start = first_position
        if start is None:  # somewhere among what is kept
            start = await self._bus.oldest(Stream.EVENTS, partition)
        if start >= until:
            return
        fence = Fence()
        async with aclosing(self._bus.read(Stream.EVENTS, partition, start)) as reading:
            async for stored in reading:
                if stored.position >= until:
                    return
                if stored.record.key == session_id:
                    event = read_event(stored)
                    if event is not None and fence.admits(event.epoch, event.seq):
                        yield event
                if stored.position == until - 1:
                    return
