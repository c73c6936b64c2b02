"""Whether every partition has an orchestrator that lives: what a media process must know to take calls."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import anyio
from anyio.abc import TaskStatus

from voxthread.core.failures import BusError
from voxthread.core.owners import Owners, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.core.workers import Heartbeat
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.claims import decode_claim
from voxthread.wire.control import decode_control
from voxthread.wire.log import POSITION_GONE, Bus, StoredRecord, Stream

log = get_logger(__name__)

SILENT_MS: Final = 3_000
"""An owner not heard of for so long attends to nobody: three leases, in which another should have claimed."""

_RETRY_S: Final = 0.2


class Attendance:
    """A fold of the claims and the heartbeats; `run` is a task of the process.

    It raises `BusError` when the log cannot be read any more, whatever is waited for, or has lost claims.
    """

    def __init__(self, bus: Bus, *, now_ms: Callable[[], int] = clock.now_ms) -> None:
        self._bus = bus
        self._now_ms = now_ms
        self._owners = Owners()
        self._heard_at_ms: dict[str, int] = {}
        self._is_reading = {Stream.CLAIMS: False, Stream.CONTROL: False}
        self._changed = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, Stream.CLAIMS, self._take_claim)
            tasks.start_soon(self._follow, Stream.CONTROL, self._take_control)
            task_status.started()

    def unready(self) -> str | None:
        """Why a call would find nobody (for `/readyz`), or None."""
        if not all(self._is_reading.values()):
            return "the log cannot be read"
        since_ms = self._now_ms() - SILENT_MS
        living = {worker_id for worker_id, at_ms in self._heard_at_ms.items() if at_ms >= since_ms}
        unattended = sum(
            self._owners[partition].owner not in living for partition in range(self._bus.partitions)
        )
        if unattended:
            return f"{unattended} of {self._bus.partitions} partitions have no living orchestrator"
        return None

    async def complete(self) -> None:
        """Wait until every partition is attended to."""
        while self.unready() is not None:
            await self.news()

    async def news(self) -> None:
        """Wait for the next record about any process: it lives, it has died, what it owns."""
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()

    async def _follow(self, stream: Stream, take: Callable[[StoredRecord], None]) -> None:
        is_history = stream is Stream.CLAIMS
        position: int | None = None
        while True:
            try:
                if position is None:
                    position = await (self._bus.oldest if is_history else self._bus.head)(stream, 0)
                self._is_reading[stream] = True
                async with aclosing(self._bus.read(stream, 0, position)) as records:
                    async for stored in records:
                        position = stored.position + 1
                        take(stored)
                        self._changed.set()
            except BusError as error:
                self._is_reading[stream] = False
                if is_history and error.code == "bus.position_lost":
                    raise  # who owns what is told by positions that others get now
                if error.code in POSITION_GONE:
                    position = None
                elif not error.retryable:
                    raise
                log.warning("log.waiting", stream=stream, code=error.code)
                await anyio.sleep(_RETRY_S)

    def _take_claim(self, stored: StoredRecord) -> None:
        try:
            change = decode_claim(stored.record.value)
        except MalformedRecordError:
            return  # whoever owns the session of a claim dead-letters it
        if isinstance(change, PartitionClaim | PartitionRelease | PartitionHold):
            self._owners.apply(stored.position, change)
        else:
            self._owners.skip(stored.position)

    def _take_control(self, stored: StoredRecord) -> None:
        try:
            record = decode_control(stored.record.value)
        except MalformedRecordError:
            return
        if isinstance(record, Heartbeat):
            self._heard_at_ms[record.worker_id] = self._now_ms()
