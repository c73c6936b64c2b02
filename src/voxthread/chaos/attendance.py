"""Who attends to which call, from the log: the fold of the claims, and who is heard of and ready."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import anyio

from voxthread.core.failures import BusError
from voxthread.core.owners import Owners, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.core.workers import Heartbeat
from voxthread.observability.clock import now_ms
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.claims import LegClaim, SessionClaim, decode_claim
from voxthread.wire.control import decode_control
from voxthread.wire.log import Bus, StoredRecord, Stream

_RETRY_S: Final = 0.1
_FRESH_MS: Final = 1_000


class Attendance:
    """`run` is a task beside whatever asks."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._owners = Owners()
        self._partitions: dict[str, int] = {}
        self._hosts: dict[str, str] = {}
        self._ready_at_ms: dict[str, int] = {}
        self._moved_at_ms = 0

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, Stream.CLAIMS, self._take_claim)
            tasks.start_soon(self._follow, Stream.CONTROL, self._take_control)

    def partition_of(self, session_id: str) -> int | None:
        return self._partitions.get(session_id)

    def owner_of(self, session_id: str) -> str | None:
        """The worker that owns the session now, None while nobody does."""
        partition = self._partitions.get(session_id)
        return None if partition is None else self._owners[partition].owner

    def host_of(self, session_id: str) -> str | None:
        """The media process that the session's caller is, or was last, connected to."""
        return self._hosts.get(session_id)

    def is_ready(self, worker_id: str) -> bool:
        """Whether it said within the last second that it may own calls."""
        return now_ms() - self._ready_at_ms.get(worker_id, 0) < _FRESH_MS

    def has_settled(self, quiet_ms: int) -> bool:
        """Whether no partition has changed hands for so long."""
        return now_ms() - self._moved_at_ms >= quiet_ms

    async def _follow(self, stream: Stream, take: Callable[[StoredRecord], None]) -> None:
        position: int | None = None
        while True:
            try:
                if position is None:
                    start = self._bus.oldest if stream is Stream.CLAIMS else self._bus.head
                    position = await start(stream, 0)
                async with aclosing(self._bus.read(stream, 0, position)) as records:
                    async for stored in records:
                        position = stored.position + 1
                        take(stored)
            except BusError as error:
                if not error.retryable:
                    raise
                await anyio.sleep(_RETRY_S)  # brokers are struck, too

    def _take_claim(self, stored: StoredRecord) -> None:
        try:
            claim = decode_claim(stored.record.value)
        except MalformedRecordError:
            return
        if isinstance(claim, PartitionClaim | PartitionRelease | PartitionHold):
            if self._owners.apply(stored.position, claim):
                self._moved_at_ms = now_ms()
            return
        self._owners.skip(stored.position)
        if isinstance(claim, SessionClaim):
            self._partitions[claim.session_id] = claim.partition
        if isinstance(claim, SessionClaim | LegClaim):
            self._hosts[claim.session_id] = claim.media_id

    def _take_control(self, stored: StoredRecord) -> None:
        try:
            record = decode_control(stored.record.value)
        except MalformedRecordError:
            return
        if isinstance(record, Heartbeat) and record.is_ready:
            self._ready_at_ms[record.worker_id] = now_ms()
