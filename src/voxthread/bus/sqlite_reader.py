"""The thread through which a process reads the SQLite file, woken by whoever appends.

A reader that has everything is parked under its place. An append wakes the thread, which reads for those parked
there and hands the rows to the loop. Should a wake be lost (its writer was killed between the commit and the
datagram, or too many came at once), the thread finds out within `LOOK_INTERVAL_S`.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from voxthread.bus.policies import MIB, POLICIES
from voxthread.bus.sqlite_file import Place, bus_error, table
from voxthread.bus.wakes import Wakes
from voxthread.core.failures import BusError
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.wire.log import Record, StoredRecord

LOOK_INTERVAL_S: Final = 0.25
"""How often the thread asks SQLite whether anything was committed since, and then reads for everybody."""

_BATCH_RECORDS: Final = 64
_BATCH_BYTES: Final = MIB
_MANY_HINTS: Final = 8  # the least that fills a queue of datagrams, so some may have been lost
_ENTRIES: Final = "position, CAST(key AS TEXT), CAST(headers AS BLOB), CAST(value AS BLOB)"
"""As they should be already: SQLite keeps what it is given, and any process of the machine may write."""
_HEADERS: Final = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Reading:
    """One reader's next records: those of `place` from `position` on."""

    place: Place
    position: int
    rows: asyncio.Future[list[StoredRecord]] = field(init=False)
    is_up_to: int | None = None
    """The wake of the place that the last batch was read after, if that batch took all there was."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """A question with one number for an answer."""

    query: str
    answer: asyncio.Future[int]


class SqliteReader:
    """Owns `connection` and listens to `wakes` between `start` and the end of `stop`."""

    def __init__(
        self, file: Path, connection: sqlite3.Connection, wakes: Wakes, places: Sequence[Place]
    ) -> None:
        self._file = file
        self._connection = connection
        self._connection.text_factory = lambda text: text.decode(errors="replace")
        self._wakes = wakes
        self._places = places
        self._numbers = {place: number for number, place in enumerate(places)}
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="bus-read", daemon=True)
        self._stopping = False
        self._data_version = -1
        self._answering: Sequence[Reading | _Asking] = ()
        self._lock = threading.Lock()  # guards what follows; held for microseconds
        self._ended_by: BusError | None = None
        self._asked: list[Reading | _Asking] = []
        self._parked: dict[Place, list[Reading]] = {place: [] for place in places}
        self._woken = dict.fromkeys(places, 0)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocks until the thread has ended; whoever still reads gets `bus.closed`."""
        self._stopping = True
        self._wakes.ring()
        self._thread.join()

    # -- in the loop --------------------------------------------------------------------------------------

    async def next_rows(self, reading: Reading) -> list[StoredRecord]:
        """At least one record at or after `reading.position`. Raises `BusError`."""
        reading.rows = self._loop.create_future()
        with self._lock:
            self._refuse_if_ended()
            has_all = reading.is_up_to == self._woken[reading.place]
            (self._parked[reading.place] if has_all else self._asked).append(reading)
        if not has_all:
            self._wakes.ring()
        try:
            return await reading.rows
        finally:
            with self._lock:
                if reading in self._parked[reading.place]:  # cancelled
                    self._parked[reading.place].remove(reading)

    async def ask(self, query: str) -> int:
        """The number that a query gives. Raises `BusError`."""
        asking = _Asking(query, self._loop.create_future())
        with self._lock:
            self._refuse_if_ended()
            self._asked.append(asking)
        self._wakes.ring()
        return await asking.answer

    def _refuse_if_ended(self) -> None:
        if self._ended_by is not None:
            raise self._ended_by

    # -- in the writer's thread ---------------------------------------------------------------------------

    def tell(self, places: set[Place]) -> None:
        """Records were committed by this process: wake its own readers and those of others."""
        with self._lock:
            is_awaited = self._release(places)
        if is_awaited:
            self._wakes.ring()
        self._wakes.tell([self._numbers[place] for place in places])

    # -- in the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        reason = BusError("bus.closed", "the bus is closed")
        try:
            self._answer_until_stopped()
        except Exception as error:  # whatever it is: readers that are told nothing wait for ever
            log.exception("bus.reader_died")
            reason = BusError("bus.failed", f"the thread that reads {self._file} has died: {error!r}")
        with self._lock:
            self._ended_by = reason
            parked = [reading for parked in self._parked.values() for reading in parked]
            left = [*self._answering, *self._asked, *parked]
        self._loop.call_soon_threadsafe(_deliver, [(each, reason) for each in left])

    def _answer_until_stopped(self) -> None:
        look_at = 0.0
        while not self._stopping:
            hints = self._wakes.listen(max(0.0, look_at - monotonic()))
            woken = {self._places[number] for hint in hints for number in hint}
            if monotonic() >= look_at or len(hints) >= _MANY_HINTS:
                look_at = monotonic() + LOOK_INTERVAL_S
                if self._has_changed():
                    woken = set(self._places)
            with self._lock:
                self._release(woken)
                self._answering, self._asked = self._asked, []
            if self._answering:
                self._answer(self._answering)
                self._answering = ()

    def _has_changed(self) -> bool:
        """Whether anything was committed since the last call."""
        try:
            (data_version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return True  # whoever waits is told what it is when it is read for
        has_changed: bool = data_version != self._data_version
        self._data_version = data_version
        return has_changed

    def _release(self, places: Iterable[Place]) -> bool:
        """Move those parked under `places` to those who are read for; call with the lock held."""
        before = len(self._asked)
        for place in places:
            self._woken[place] += 1
            self._asked += self._parked[place]
            self._parked[place].clear()
        return len(self._asked) > before

    def _answer(self, asked: Sequence[Reading | _Asking]) -> None:
        answers: list[tuple[Reading | _Asking, list[StoredRecord] | int | BusError]] = []
        for each in asked:
            try:
                if isinstance(each, _Asking):
                    (number,) = self._connection.execute(each.query).fetchone()
                    answers.append((each, number))
                elif rows := self._rows(each):
                    answers.append((each, rows))
            except sqlite3.Error as error:
                answers.append((each, bus_error(error, self._file)))
            except BusError as error:
                answers.append((each, error))
        if answers:
            self._loop.call_soon_threadsafe(_deliver, answers)

    def _rows(self, reading: Reading) -> list[StoredRecord]:
        """What there is to read; nothing parks the reading."""
        place, position = reading.place, reading.position
        self._wakes.await_place(self._numbers[place])
        woken = self._woken[place]
        rows, took_all = self._select(place, position)
        if rows and rows[0].position > position and not POLICIES[place[0]].compacted:
            oldest = rows[0].position
            raise BusError(
                "bus.position_expired", f"position {position} has expired, the oldest kept is {oldest}"
            )
        if rows:
            reading.is_up_to = woken if took_all else None
            return rows
        if reading.rows.done():
            return []  # cancelled meanwhile
        with self._lock:
            is_new = self._woken[place] != woken
            (self._asked if is_new else self._parked[place]).append(reading)
        if is_new:
            self._wakes.ring()
        return []

    def _select(self, place: Place, position: int) -> tuple[list[StoredRecord], bool]:
        """Records from `position` on, and whether they are all."""
        cursor = self._connection.execute(
            f"SELECT {_ENTRIES} FROM {table(place)} WHERE position >= ? ORDER BY position",
            (position,),
        )
        rows: list[StoredRecord] = []
        taken_bytes = 0
        try:
            for at, key, headers, value in cursor:
                rows.append(StoredRecord(at, Record(key, value, _headers(place, at, headers))))
                taken_bytes += len(value)
                if len(rows) == _BATCH_RECORDS or taken_bytes > _BATCH_BYTES:
                    return rows, False
        finally:
            cursor.close()
        return rows, True


def _headers(place: Place, position: int, stored: bytes | None) -> tuple[tuple[str, bytes], ...]:
    try:
        return _HEADERS.decode(stored) if stored else ()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        stream, partition = place
        BUS_RECORDS_MALFORMED.labels(stream).inc()
        log.warning(
            "record.headers_unreadable",
            stream=stream,
            partition=partition,
            position=position,
            reason=str(error),
        )
        return ()


def _deliver(answers: Sequence[tuple[Reading | _Asking, list[StoredRecord] | int | BusError]]) -> None:
    for each, answer in answers:
        future: asyncio.Future[object] = each.answer if isinstance(each, _Asking) else each.rows  # type: ignore[assignment]
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(answer, BusError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
