"""The log in a file, for several processes of one machine: they survive each other's kill -9, not a power cut.

A process appends through one thread and reads through another; the loop waits for neither. Decided and
measured in docs/adr/0007-sqlite-log.md.
"""

import sqlite3
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.to_thread import run_sync

from voxthread.bus.policies import POLICIES, Policy, refuse_oversized
from voxthread.bus.sqlite_file import Place, bus_error, connect, places, prepare, table
from voxthread.bus.sqlite_reader import Reading, SqliteReader
from voxthread.bus.sqlite_reserve import Reserve
from voxthread.bus.sqlite_retention import Sweep
from voxthread.bus.sqlite_writer import SqliteWriter
from voxthread.bus.wakes import Wakes
from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Record, StoredRecord, Stream


class SqliteBus:
    """A `Bus` in `file`, usable within `async with`; not for use from other threads.

    `partitions` counts for a file that is not there yet; afterwards the file says how many it has.
    """

    def __init__(
        self,
        file: Path,
        partitions: int = 8,
        policies: Mapping[Stream, Policy] = POLICIES,
        reserve: Reserve | None = None,
    ) -> None:
        self._file = file
        self._reserve = reserve or Reserve(file)
        self._partitions = partitions
        self._policies = policies
        self._opened = ExitStack()
        self._writer: SqliteWriter
        self._reader: SqliteReader

    async def __aenter__(self) -> Self:
        """Raises `BusError`: `bus.cannot_open`, `bus.corrupt`, `bus.disk_full`, `bus.unknown_format`."""
        with ExitStack() as opened:
            try:
                for_writes, for_reads, wakes = await run_sync(self._open, opened)
            except sqlite3.Error as error:
                raise bus_error(error, self._file) from error
            except OSError as error:
                raise BusError("bus.cannot_open", f"{self._file} cannot be opened: {error}") from error
            all_places = places(self._partitions)
            self._reader = SqliteReader(self._file, for_reads, wakes, all_places)
            sweep = Sweep(all_places, self._policies)
            self._writer = SqliteWriter(
                self._file, for_writes, all_places, sweep, self._reserve, self._reader.tell
            )
            self._reader.start()
            opened.callback(self._reader.stop)
            self._writer.start()
            opened.callback(self._writer.stop)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await run_sync(self._opened.close)

    @property
    def partitions(self) -> int:
        return self._partitions

    @property
    def closing(self) -> str | None:
        return self._writer.closing

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        """Returns when the record is committed: it outlives this process. Beside what `Bus` says, raises
        `bus.disk_full` and `bus.corrupt`, not retryable, and `bus.busy` when another process held the file
        for two seconds. Cancelling it does not withdraw the record.
        """
        place = self._place(stream, partition)
        refuse_oversized(record)
        await checkpoint_if_cancelled()
        return await self._writer.append(place, record)

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        """Raises `BusError` `bus.position_expired` when the next record was dropped before it was read."""
        reading = Reading(self._place(stream, partition), from_position)
        while True:
            rows = await self._reader.next_rows(reading)
            reading.position = rows[-1].position + 1
            for stored in rows:
                yield stored

    async def oldest(self, stream: Stream, partition: int) -> int:
        name = table(self._place(stream, partition))
        return await self._reader.ask(f"SELECT coalesce(min(position), 0) FROM {name}")

    async def head(self, stream: Stream, partition: int) -> int:
        name = table(self._place(stream, partition))
        return await self._reader.ask(f"SELECT coalesce(max(position) + 1, 0) FROM {name}")

    def _open(self, opened: ExitStack) -> tuple[sqlite3.Connection, sqlite3.Connection, Wakes]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._partitions = prepare(self._file, self._partitions)
        self._reserve.make()
        connections = []
        for _ in range(2):
            connections.append(connect(self._file))
            opened.callback(connections[-1].close)
        wakes = Wakes(self._file.with_name(f"{self._file.name}-wakes"))
        opened.callback(wakes.close)
        return connections[0], connections[1], wakes

    def _place(self, stream: Stream, partition: int) -> Place:
        last = 0 if stream in SINGLE_PARTITION else self._partitions - 1
        if not 0 <= partition <= last:
            raise BusError("bus.no_such_partition", f"{stream} has partitions 0 to {last}, not {partition}")
        return stream, partition
