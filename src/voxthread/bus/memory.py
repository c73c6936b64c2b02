"""The log in one process: for tests and for a server that runs every role itself.

Nothing survives the process. Everything else is as on a real broker: records are encoded bytes, readers keep
their own positions, and old records expire.
"""

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from types import MappingProxyType
from typing import Final

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from voxthread.bus.policies import MIB, refuse_oversized, size_bytes
from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Record, StoredRecord, Stream

RETAINED_BYTES: Final[Mapping[Stream, int]] = MappingProxyType(
    {
        Stream.IN: 4 * MIB,  # two minutes of one caller, 20 s of seven who talk at once
        Stream.OUT: 4 * MIB,
        Stream.EVENTS: 16 * MIB,  # about 20,000 events
        Stream.STATE: 4 * MIB,
        Stream.CLAIMS: MIB,
        Stream.CONTROL: MIB,
        Stream.DLQ: MIB,
    }
)
"""What each partition keeps; beyond it the oldest records are dropped, but never the newest one."""

RECORD_OVERHEAD_BYTES: Final = 400
"""What a stored record costs beside its bytes in CPython, rounded up; counted so that the bound is real."""

_BATCH_RECORDS = 64  # a reader that catches up lets other tasks run this often


class MemoryBus:
    """A `Bus` for the tasks of one event loop; not for use from other threads."""

    def __init__(self, partitions: int = 8, retained_bytes: Mapping[Stream, int] = RETAINED_BYTES) -> None:
        self._partitions = partitions
        self._logs = {
            stream: [
                _PartitionLog(retained_bytes[stream])
                for _ in range(1 if stream in SINGLE_PARTITION else partitions)
            ]
            for stream in Stream
        }

    @property
    def partitions(self) -> int:
        return self._partitions

    @property
    def closing(self) -> str | None:
        return None

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        """Never blocks; fails only for a partition that does not exist or a record that is too large."""
        log = self._log(stream, partition)
        refuse_oversized(record)
        await checkpoint_if_cancelled()
        position = log.append(record)
        await cancel_shielded_checkpoint()
        return position

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        """Raises `BusError` `bus.position_expired` when the next record was dropped before it was read."""
        log = self._log(stream, partition)
        position = from_position
        while True:
            batch = log.batch(position)
            for stored in batch:
                yield stored
            if batch:
                position = batch[-1].position + 1
                await checkpoint()
            else:
                await log.wait_for_append()

    async def oldest(self, stream: Stream, partition: int) -> int:
        await checkpoint()
        return self._log(stream, partition).oldest

    async def head(self, stream: Stream, partition: int) -> int:
        await checkpoint()
        return self._log(stream, partition).head

    def _log(self, stream: Stream, partition: int) -> "_PartitionLog":
        logs = self._logs[stream]
        if not 0 <= partition < len(logs):
            raise BusError(
                "bus.no_such_partition", f"{stream} has partitions 0 to {len(logs) - 1}, not {partition}"
            )
        return logs[partition]


class _PartitionLog:
    """One ordered partition; positions are dense and start at 0."""

    __slots__ = ("_appended", "_kept_bytes", "_records", "_retained_bytes", "head")

    def __init__(self, retained_bytes: int) -> None:
        self._retained_bytes = retained_bytes
        self._kept_bytes = 0
        self._records: deque[StoredRecord] = deque()
        self._appended: anyio.Event | None = None
        self.head = 0

    @property
    def oldest(self) -> int:
        return self.head - len(self._records)

    def append(self, record: Record) -> int:
        position = self.head
        self._records.append(StoredRecord(position, record))
        self._kept_bytes += _held_bytes(record)
        self.head += 1
        while self._kept_bytes > self._retained_bytes and len(self._records) > 1:
            self._kept_bytes -= _held_bytes(self._records.popleft().record)
        if self._appended is not None:
            self._appended.set()
            self._appended = None
        return position

    def batch(self, from_position: int) -> list[StoredRecord]:
        """Up to 64 records at or after `from_position`; none when it is not reached yet."""
        if from_position < self.oldest:
            raise BusError(
                "bus.position_expired",
                f"position {from_position} has expired, the oldest kept is {self.oldest}",
            )
        start = from_position - self.oldest
        return [self._records[i] for i in range(start, min(start + _BATCH_RECORDS, len(self._records)))]

    async def wait_for_append(self) -> None:
        if self._appended is None:
            self._appended = anyio.Event()
        await self._appended.wait()


def _held_bytes(record: Record) -> int:
    return size_bytes(record) + RECORD_OVERHEAD_BYTES
