"""One worker's ownership of partitions on the log: reads, writes, keeps time; `core.ownership` decides.

Heartbeats are written from the event loop, so that a loop that is blocked is a worker that is dead.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from voxthread.core.failures import BusError
from voxthread.core.owners import PartitionChange
from voxthread.core.ownership import Effect, Granted, Lost, Ownership, OwnershipPolicy
from voxthread.core.workers import DeathNotice, Heartbeat
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.claims import decode_claim, encode_partition_change
from voxthread.wire.control import decode_control, encode_control
from voxthread.wire.log import POSITION_GONE, Bus, Record, StoredRecord, Stream

log = get_logger(__name__)

_RETRY_S: Final = 0.2
"""From an error of the bus to the next try."""

_ROUNDING_S: Final = 1e-6
"""The clock of uvloop counts milliseconds: a deadline that rounding puts just behind one is polled for until
the next (a hundred times, measured)."""


class PartitionClaims:
    """The partitions of worker `worker_id`, an id best used for one process only.

    `on_granted(partition, epoch, is_orphan)` and `on_lost(partition)` are called on the event loop, for each
    partition in turn, the moment the log says so; they must not block. An orphan's owner has died.
    `sessions` says how many run here, by partition.
    """

    def __init__(
        self,
        bus: Bus,
        worker_id: str,
        *,
        on_granted: Callable[[int, int, bool], None],
        on_lost: Callable[[int], None],
        sessions: Callable[[], Mapping[int, int]],
        policy: OwnershipPolicy | None = None,
        now: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._bus = bus
        self._worker_id = worker_id
        self._on_granted = on_granted
        self._on_lost = on_lost
        self._sessions = sessions
        self._now = now
        self._ownership = Ownership(worker_id, bus.partitions, policy)
        self._woken = anyio.Event()
        self._holds_none = anyio.Event()
        self._in_flight: set[Effect | str] = set()
        self._is_bus_away = False

    @property
    def held(self) -> Mapping[int, int]:
        """The partitions owned now and the epoch of each."""
        return self._ownership.held

    def set_ready(self, is_ready: bool) -> None:
        """Begin, or stop, to take partitions; those held stay. A worker begins unready."""
        self._ownership.set_ready(is_ready)
        self._woken.set()

    async def drain(self) -> None:
        """Release every partition, for good; returns when all are lost. While the bus is away that is never."""
        self._ownership.drain()
        self._woken.set()
        while self.held:
            self._holds_none = anyio.Event()
            await self._holds_none.wait()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. A bus that is away is waited for, at the start too; what is owned stays owned.

        Raises `BusError` when the log cannot be read any more, whatever is waited for, or has lost claims.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, Stream.CLAIMS, self._claims_start, self._take_claim)
            tasks.start_soon(self._follow, Stream.CONTROL, self._control_start, self._take_control)
            task_status.started()
            while True:
                await self._keep_time(tasks)

    async def _keep_time(self, tasks: TaskGroup) -> None:
        self._woken = anyio.Event()
        wait_ms = self._ownership.deadline() - self._now()
        with anyio.move_on_after(max(0.0, wait_ms / 1000 - _ROUNDING_S)):
            await self._woken.wait()
        occupied = [partition for partition, count in self._sessions().items() if count]
        for effect in self._ownership.handle_deadline(self._now(), occupied):
            in_flight = "heartbeat" if isinstance(effect, Heartbeat) else effect
            if in_flight not in self._in_flight:
                self._in_flight.add(in_flight)
                tasks.start_soon(self._append, effect, in_flight)

    # -- reading ------------------------------------------------------------------------------------------

    async def _follow(
        self, stream: Stream, start: Callable[[], Awaitable[int]], take: Callable[[StoredRecord], None]
    ) -> None:
        position: int | None = None
        while True:
            try:
                if position is None:
                    position = await start()
                async with aclosing(self._bus.read(stream, 0, position)) as records:
                    async for stored in records:
                        position = stored.position + 1
                        take(stored)
            except BusError as error:
                if stream is Stream.CLAIMS and error.code == "bus.position_lost":
                    raise  # epochs are positions of claims, which others get now
                if error.code in POSITION_GONE:
                    position = None
                elif not error.retryable:
                    raise
                self._bus_failed(error, stream)
                await anyio.sleep(_RETRY_S)

    async def _claims_start(self) -> int:
        oldest = await self._bus.oldest(Stream.CLAIMS, 0)
        head = await self._bus.head(Stream.CLAIMS, 0)
        self._ownership.catch_up_to(head if oldest < head else 0)
        self._woken.set()
        return oldest

    async def _control_start(self) -> int:
        return await self._bus.head(Stream.CONTROL, 0)

    def _take_claim(self, stored: StoredRecord) -> None:
        now = self._now()
        try:
            claim = decode_claim(stored.record.value)
        except MalformedRecordError as error:
            _warn_of_malformed(Stream.CLAIMS, stored, error)
            claim = None
        if not isinstance(claim, PartitionChange):
            self._ownership.skip_claim(stored.position, now)
        else:
            for change in self._ownership.handle_claim(stored.position, claim, now):
                self._tell(change)
        self._wake_if_due(now)

    def _take_control(self, stored: StoredRecord) -> None:
        now = self._now()
        try:
            self._ownership.handle_control(decode_control(stored.record.value), now)
        except MalformedRecordError as error:
            _warn_of_malformed(Stream.CONTROL, stored, error)
        self._wake_if_due(now)

    def _wake_if_due(self, now: int) -> None:
        if self._ownership.deadline() <= now:
            self._woken.set()

    def _tell(self, change: Granted | Lost) -> None:
        match change:
            case Granted(partition=partition, epoch=epoch, is_orphan=is_orphan):
                log.info(
                    "partition.granted",
                    partition=partition,
                    epoch=epoch,
                    is_orphan=is_orphan,
                    worker_id=self._worker_id,
                )
                self._on_granted(partition, epoch, is_orphan)
            case Lost(partition=partition, epoch=epoch):
                log.info("partition.lost", partition=partition, epoch=epoch, worker_id=self._worker_id)
                self._on_lost(partition)
                if not self.held:
                    self._holds_none.set()

    # -- writing ------------------------------------------------------------------------------------------

    async def _append(self, effect: Effect, in_flight: Effect | str) -> None:
        """Once: what it is worth a second time is written again by the one who decides."""
        stream, record = self._encoded(effect)
        try:
            await self._bus.append(stream, 0, record)
        except BusError as error:
            self._bus_failed(error, stream)
        else:
            self._bus_worked()
        finally:
            self._in_flight.discard(in_flight)

    def _encoded(self, effect: Effect) -> tuple[Stream, Record]:
        match effect:
            case Heartbeat():
                beat = replace(effect, sessions=sum(self._sessions().values()))
                return Stream.CONTROL, encode_control(beat, can_wait=not beat.is_first)
            case DeathNotice():
                log.warning("worker.silent", worker_id=effect.worker_id)
                return Stream.CONTROL, encode_control(effect)
            case _:
                return Stream.CLAIMS, encode_partition_change(effect, self._now())

    def _bus_failed(self, error: BusError, stream: Stream) -> None:
        if not self._is_bus_away:
            self._is_bus_away = True
            log.warning(
                "claims.bus_away", code=error.code, stream=stream, detail=error.detail, held=len(self.held)
            )

    def _bus_worked(self) -> None:
        if self._is_bus_away:
            self._is_bus_away = False
            log.info("claims.bus_back", held=len(self.held))


def _warn_of_malformed(stream: Stream, stored: StoredRecord, error: MalformedRecordError) -> None:
    BUS_RECORDS_MALFORMED.labels(stream=stream).inc()
    log.warning("claims.record_malformed", stream=stream, position=stored.position, detail=str(error))
