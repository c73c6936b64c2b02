"""All sessions of a media process: one clock for them all, and their records from the log."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from voxthread.core.failures import BusError, MediaError, SessionError, VoiceError
from voxthread.core.ids import Dialect
from voxthread.media.leg import Leg, LegWatch
from voxthread.media.leg_log import LegLog
from voxthread.media.leg_peer import LegPeer
from voxthread.media.sdp import parse_offer
from voxthread.media.settings import MediaSettings
from voxthread.observability.clock import now_ms, now_us
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.dead_letter import dead_letter
from voxthread.wire.facts import InFact, LegResumed, SessionOpened
from voxthread.wire.log import POSITION_GONE, Bus, StoredRecord, Stream

TICK_US: Final = 20_000

CATCH_UP_TICKS: Final = 5
"""After a stall this many ticks are made up for at once (100 ms, what a player's jitter buffer absorbs).
Ticks missed beyond that stay missed: replies go on later, and RTP timestamps tell of the pause."""

_RETRY_S: Final = 0.5

log = get_logger(__name__)


@asynccontextmanager
async def open_legs(
    bus: Bus, settings: MediaSettings, partitions: Sequence[int], watch: LegWatch, *, invalid_ids: InvalidIds
) -> AsyncIterator["Legs"]:
    """The sessions of this process, on these `partitions` of the log. All are cut off at the end; call
    `end_all` before it for a goodbye, or `hand_over_all` if another process can go on with them."""
    async with anyio.create_task_group() as tasks:
        legs = Legs(bus, settings, watch, tasks, invalid_ids)
        for partition in partitions:
            await tasks.start(legs.follow, partition)
        tasks.start_soon(legs.keep_time)
        try:
            yield legs
        finally:
            tasks.cancel_scope.cancel()


class Legs:
    def __init__(
        self, bus: Bus, settings: MediaSettings, watch: LegWatch, tasks: TaskGroup, invalid_ids: InvalidIds
    ) -> None:
        self._bus = bus
        self._invalid_ids = invalid_ids
        self._settings = settings
        self._watch = watch
        self._tasks = tasks
        self._legs: dict[str, Leg] = {}
        self._begun = anyio.Event()
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._legs)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._legs

    def has_room(self) -> bool:
        return len(self._legs) < self._settings.max_sessions and not self._is_stopping

    async def open_leg(self, session_id: str, partition: int, opened: SessionOpened) -> None:
        """Begin a session: `opened` becomes its first record.

        Raises `MediaError` `media.full` (retryable), or `media.session_exists`.
        """
        if session_id in self._legs:
            raise MediaError("media.session_exists", "The session is open already.")
        leg_log = LegLog(self._bus, session_id, partition)
        await self._start(leg_log, opened, opened.frontend_session_id)

    async def resume_leg(
        self,
        session_id: str,
        partition: int,
        epoch: int,
        resumed: LegResumed,
        *,
        frontend_session_id: str | None = None,
    ) -> None:
        """Go on with a session that another process had, or this one before: `resumed` becomes its first record
        under this `epoch`. It waits for its peer as one that has lost it.

        Raises `MediaError` `media.full` (retryable), or `media.session_exists`: that needs only `connect`.
        """
        while (leg := self._legs.get(session_id)) is not None:
            if not leg.is_closed:
                raise MediaError("media.session_exists", "The session is open already.")
            await leg.ended.wait()
        await self._start(LegLog(self._bus, session_id, partition, epoch=epoch), resumed, frontend_session_id)

    def check_offer(self, offer: str) -> None:
        """Raises `OfferError` if the offer cannot be answered."""
        parse_offer(offer)

    async def connect(self, session_id: str, offer: str) -> LegPeer:
        """Answer a caller's offer. Raises `OfferError` or `MediaError`."""
        parsed = parse_offer(offer)
        return await self._leg(session_id).connect(parsed)

    async def send(self, session_id: str, fact: InFact) -> None:
        """Put a fact of a session on the log, in order with its audio; never waits. Raises `MediaError`."""
        self._leg(session_id).say(fact)

    def end(self, session_id: str, reason: str) -> None:
        """End a session; an unknown one has ended already."""
        if (leg := self._legs.get(session_id)) is not None:
            leg.end(reason)

    def move(self, session_id: str) -> None:
        """Another process has the session: disconnect its peer and say nothing of it any more."""
        if (leg := self._legs.get(session_id)) is not None:
            leg.move("moved")

    async def end_all(self, reason: str) -> None:
        """End every session and wait until that is written; a log that hangs delays it by seconds only.

        From then on there is room for none.
        """
        await self._leave_all(lambda leg: leg.end(reason))

    async def hand_over_all(self, reason: str) -> None:
        """The same, but the sessions live: their callers are to come back to another process."""
        await self._leave_all(lambda leg: leg.hand_over(reason))

    async def _leave_all(self, leave: Callable[[Leg], None]) -> None:
        self._is_stopping = True
        legs = [*self._legs.values()]
        for leg in legs:
            leave(leg)
        for leg in legs:
            await leg.ended.wait()

    async def keep_time(self) -> None:
        """Tick every 20 ms on an absolute schedule: a late tick does not delay those after it."""
        due_us = now_us()
        while True:
            if not self._legs:
                self._begun = anyio.Event()
                await self._begun.wait()
                due_us = now_us()
            due_us += TICK_US
            missed = max(0, (now_us() - due_us) // TICK_US - CATCH_UP_TICKS)
            due_us += missed * TICK_US
            await anyio.sleep(max(0, due_us - now_us()) / 1_000_000)
            for leg in [*self._legs.values()]:
                self._tick(leg, 1 + missed)

    async def follow(self, partition: int, *, task_status: TaskStatus[None]) -> None:
        """Hand each record of the partition to its session; those of other processes pass by.

        Should the next one not be there any more, its sessions go on with what is appended from now on.
        """
        position: int | None = None
        is_following = False
        while True:
            try:
                if position is None:
                    position = await self._bus.head(Stream.OUT, partition)
                    if not is_following:
                        task_status.started()
                    is_following = True
                async with aclosing(self._bus.read(Stream.OUT, partition, position)) as records:
                    async for stored in records:
                        position = stored.position + 1
                        await self._take(partition, stored)
            except BusError as error:
                if error.code in POSITION_GONE:
                    log.error("log.unread", partition=partition, code=error.code, detail=error.detail)
                    position = None
                    continue
                log.warning("bus.read_failed", partition=partition, code=error.code)
                await anyio.sleep(_RETRY_S)

    async def _start(
        self, leg_log: LegLog, first: SessionOpened | LegResumed, frontend_session_id: str | None
    ) -> None:
        if not self.has_room():
            raise MediaError("media.full", "All lines are taken; try again shortly.", retryable=True)
        leg = Leg(leg_log, first, self._settings, self._watch, frontend_session_id=frontend_session_id)
        self._legs[leg.session_id] = leg
        self._begun.set()
        await self._tasks.start(self._run, leg)

    async def _run(self, leg: Leg, *, task_status: TaskStatus[None]) -> None:
        reason = "internal_error"
        try:
            reason = await leg.run(task_status=task_status)
        except Exception:  # a fault in one session must not end the others
            log.exception("leg.failed", session_id=leg.session_id)
        finally:
            del self._legs[leg.session_id]
        try:
            if not leg.goes_on:
                await self._watch.leg_ended(leg.session_id, reason)
        except VoiceError as error:
            log.warning("leg.end_not_told", session_id=leg.session_id, code=error.code)
        leg.ended.set()

    def _tick(self, leg: Leg, ticks: int) -> None:
        try:
            leg.tick(ticks)
        except Exception:  # nor may it stop their clock
            log.exception("leg.tick_failed", session_id=leg.session_id)
            leg.end("internal_error")

    async def _take(self, partition: int, stored: StoredRecord) -> None:
        record = stored.record
        leg = self._legs.get(record.key)
        try:
            if leg is not None:
                leg.take(record.value)
            else:
                self._invalid_ids.check(record.key, component="media", dialect=Dialect.MEDIA)
        except SessionError as error:  # its key is no session id, of which the check has warned
            await self._dead_letter(stored, partition, error.code)
        except MalformedRecordError as error:
            BUS_RECORDS_MALFORMED.labels(Stream.OUT).inc()
            log.warning("record.malformed", session_id=record.key, reason=str(error))
            await self._dead_letter(stored, partition, str(error))

    async def _dead_letter(self, stored: StoredRecord, partition: int, error: str) -> None:
        poison = dead_letter(stored, stream=Stream.OUT, partition=partition, error=error, at_ms=now_ms())
        try:
            await self._bus.append(Stream.DLQ, 0, poison)
        except BusError as failure:
            log.warning("bus.append_failed", code=failure.code, stream=Stream.DLQ)

    def _leg(self, session_id: str) -> Leg:
        leg = self._legs.get(session_id)
        if leg is None:
            raise MediaError("media.no_session", "The session is not open at this media server.")
        return leg
