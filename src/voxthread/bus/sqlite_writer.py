"""The thread through which a process appends to the SQLite file.

It commits everything that has queued up since the last commit in one transaction, tells the readers, and sweeps
when nobody waits.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final

import msgspec

from voxthread.bus.policies import size_bytes
from voxthread.bus.sqlite_file import Place, bus_error, insert, roll_back, table
from voxthread.bus.sqlite_reserve import Reserve
from voxthread.bus.sqlite_retention import Sweep
from voxthread.core.failures import BusError
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.wire.log import Record

BATCH_RECORDS: Final = 256
SWEEP_AFTER_FAILURE_S: Final = 5

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Append:
    place: Place
    columns: tuple[int, str, bytes | None, bytes]
    """Size, key, headers, value."""
    can_wait: bool
    done: asyncio.Future[int]


class SqliteWriter:
    """Owns `connection` between `start` and the end of `stop`; `tell` is called in its thread."""

    def __init__(
        self,
        file: Path,
        connection: sqlite3.Connection,
        places: Iterable[Place],
        sweep: Sweep,
        reserve: Reserve,
        tell: Callable[[set[Place]], None],
    ) -> None:
        self._file = file
        self._connection = connection
        self._sweep = sweep
        self._reserve = reserve
        self.closing = reserve.closing()
        self._tell = tell
        self._queue: SimpleQueue[_Append | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._tables = {place: table(place) for place in places}
        self._thread = threading.Thread(target=self._run, name="bus-append", daemon=True)
        self._lock = threading.Lock()  # nothing is queued behind the last entry
        self._is_closed = False

    def start(self) -> None:
        self._thread.start()

    def append(self, place: Place, record: Record) -> asyncio.Future[int]:
        """Queue a record; the future gives its position once it is committed, or a `BusError`.

        Raises `BusError` `bus.closed`.
        """
        headers = msgspec.msgpack.encode(record.headers) if record.headers else None
        columns = (size_bytes(record), record.key, headers, record.value)
        append = _Append(place, columns, record.can_wait, self._loop.create_future())
        with self._lock:
            if self._is_closed:
                raise BusError("bus.closed", "the bus is closed")
            self._queue.put(append)
        return append.done

    def stop(self) -> None:
        """Return when all that was queued is stored; blocks."""
        with self._lock:
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        sweep_at = monotonic()
        is_last = False
        while not is_last:
            batch, is_last = self._next_batch(sweep_at)
            if batch:
                self._store(batch)
            if monotonic() >= sweep_at and self._queue.empty():
                sweep_at = monotonic() + self._swept()

    def _next_batch(self, until: float) -> tuple[list[_Append], bool]:
        """What is queued, at least one unless `until` comes first; and whether it is the last."""
        batch: list[_Append] = []
        try:
            entry = self._queue.get(timeout=max(0.0, until - monotonic()))
            while entry is not None:
                batch.append(entry)
                if len(batch) == BATCH_RECORDS:
                    return batch, False
                entry = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _store(self, batch: Sequence[_Append]) -> None:
        at_ms = now_ms()
        try:
            try:
                positions = self._commit(batch, at_ms)
            except sqlite3.Error as error:
                if not self._has_made_room(error):
                    raise
                positions = self._commit(batch, at_ms)
        except sqlite3.Error as error:
            failure = bus_error(error, self._file)
            log.error("bus.append_failed", code=failure.code, detail=failure.detail, records=len(batch))
            self._loop.call_soon_threadsafe(_fail, batch, failure)
        else:
            if awaited := {append.place for append in batch if not append.can_wait}:
                self._tell(awaited)
            self._loop.call_soon_threadsafe(_settle, batch, positions)

    def _commit(self, batch: Sequence[_Append], at_ms: int) -> list[int]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            positions = [
                insert(self._connection, self._tables[append.place], (at_ms, *append.columns))
                for append in batch
            ]
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            roll_back(self._connection)
            raise
        return positions

    def _has_made_room(self, error: sqlite3.Error) -> bool:
        if bus_error(error, self._file).code != "bus.disk_full" or not self._reserve.spend():
            return False
        self._look_at_reserve()
        return True

    def _look_at_reserve(self) -> None:
        """Another process may have spent it; whoever finds room makes it anew."""
        if self.closing is not None and self._reserve.make():
            log.info("bus.reopened")
        was_closing, self.closing = self.closing is not None, self._reserve.closing()
        if self.closing is not None and not was_closing:
            log.error("bus.closing", code="bus.disk_full", detail=self.closing)

    def _swept(self) -> float:
        self._look_at_reserve()
        try:
            return self._sweep.step(self._connection, now_ms())
        except sqlite3.Error as error:
            roll_back(self._connection)
            log.warning("bus.sweep_failed", code=bus_error(error, self._file).code)
            return SWEEP_AFTER_FAILURE_S


def _settle(batch: Sequence[_Append], positions: Sequence[int]) -> None:
    for append, position in zip(batch, positions, strict=True):
        if not append.done.done():
            append.done.set_result(position)


def _fail(batch: Sequence[_Append], failure: BusError) -> None:
    for append in batch:
        if not append.done.done():
            append.done.set_exception(BusError(failure.code, failure.detail, retryable=failure.retryable))
