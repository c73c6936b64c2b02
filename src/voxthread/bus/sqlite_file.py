"""The file of the SQLite bus: one table for each partition, opened by every process of one machine.

`"voxthread.in/3"` holds partition 3 of `voxthread.in`. `written_bytes` counts all bytes ever appended to the
partition up to and with the record, so the difference of two rows is what lies between them.
"""

import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from voxthread.bus.policies import MIB, POLICIES
from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Stream

FORMAT: Final = 1
BUSY_MS: Final = 2_000
"""How long to wait for another process that writes; a commit takes 0.1 ms, a checkpoint some ms."""

_APPLICATION_ID: Final = 0x766F7874  # "voxt", shown by file(1)
_WAL_BYTES: Final = 32 * MIB
_OPEN_PATIENCE_S: Final = 10
_WRITE_LOCK: Final = 120
"""WAL_WRITE_LOCK: this byte of the -shm file (https://sqlite.org/walformat.html, section 2.3.1)."""

_INSERT_NEXT: Final = """
INSERT INTO {table}
SELECT position + 1, ?, written_bytes + ?, ?, ?, ? FROM {table} ORDER BY position DESC LIMIT 1"""
_INSERT_FIRST: Final = "INSERT INTO {table} VALUES (0, ?, ?, ?, ?, ?)"

Place = tuple[Stream, int]


def table(place: Place) -> str:
    stream, partition = place
    return f'"{stream}/{partition}"'


def places(partitions: int) -> list[Place]:
    """All places, in an order that every process shares."""
    return [(s, p) for s in Stream for p in range(1 if s in SINGLE_PARTITION else partitions)]


def prepare(file: Path, partitions: int) -> int:
    """Make the file if it is not there yet and return how many partitions it has.

    Blocks; several processes may do so at once. Raises `BusError`.
    """
    until = monotonic() + _OPEN_PATIENCE_S
    while True:
        try:
            return _prepare(file, partitions)
        except sqlite3.Error as error:
            # The change to WAL does not wait for the lock of another process that is just opening it.
            if not _is_busy(error) or monotonic() > until:
                raise bus_error(error, file) from error
            sleep(0.01)


def connect(file: Path) -> sqlite3.Connection:
    """A connection that commits by itself, for one thread at a time. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(file, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def insert(
    connection: sqlite3.Connection, name: str, columns: tuple[int, int, str, bytes | None, bytes]
) -> int:
    """Append a row of time, size, key, headers and value to a table and return its position."""
    stored = connection.execute(_INSERT_NEXT.format(table=name), columns)
    if not stored.rowcount:
        stored = connection.execute(_INSERT_FIRST.format(table=name), columns)
    assert stored.lastrowid is not None
    return stored.lastrowid


def who_writes(file: Path) -> int | None:
    """The process within a transaction that writes, so that nobody else can; known on Linux only.

    From the system's list of locks: a look at the file itself would end the locks of the one who looks.
    """
    locks = Path("/proc/locks")
    try:
        inode = file.with_name(f"{file.name}-shm").stat().st_ino
        held = locks.read_text().splitlines()
    except OSError:
        return None
    for lock in held:  # "1: POSIX  ADVISORY  WRITE 4711 fe:00:131 120 120"; a waiting one has "->"
        fields = lock.split()
        if fields[1] == "POSIX" and fields[3] == "WRITE" and fields[5].endswith(f":{inode}"):
            first, last = int(fields[6]), fields[7]
            if first <= _WRITE_LOCK and (last == "EOF" or int(last) >= _WRITE_LOCK):
                return int(fields[4])
    return None


def roll_back(connection: sqlite3.Connection) -> None:
    """Leave a transaction that failed; some failures have left it already."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # the failure that led here is the one to tell
            connection.execute("ROLLBACK")


def bus_error(error: sqlite3.Error, file: Path) -> BusError:
    """What SQLite raised, in the words of the bus."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(file)):
        return BusError("bus.disk_full", f"no room left for {file}; make room, then start again")
    if _is_busy(error):
        return BusError("bus.busy", f"{file} is being written by another process", retryable=True)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return BusError(
            "bus.corrupt",
            f"{file} is damaged or no log of Voxthread ({error}). Stop every voxthread process, move the file "
            f"away together with {file.name}-wal and {file.name}-shm, and start again: a new one is made",
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return BusError("bus.cannot_open", f"{file} cannot be opened for writing: {error}")
    return BusError("bus.failed", f"{file}: {error}", retryable=code == sqlite3.SQLITE_IOERR)


def _prepare(file: Path, partitions: int) -> int:
    connection = connect(file)
    try:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _create(connection, partitions)
        elif version != FORMAT:
            raise BusError(
                "bus.unknown_format", f"{file} has format {version}, this version of Voxthread reads {FORMAT}"
            )
        (stored,) = connection.execute("SELECT partitions FROM log").fetchone()
        connection.execute("COMMIT")
        return int(stored)
    finally:
        roll_back(connection)
        connection.close()


def _create(connection: sqlite3.Connection, partitions: int) -> None:
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute("CREATE TABLE log (partitions INTEGER NOT NULL)")
    connection.execute("INSERT INTO log VALUES (?)", (partitions,))
    for stream, partition in places(partitions):
        name = table((stream, partition))
        connection.execute(
            f"CREATE TABLE {name} (position INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL,"
            " written_bytes INTEGER NOT NULL, key TEXT NOT NULL, headers BLOB, value BLOB NOT NULL)"
        )
        if POLICIES[stream].compacted:
            connection.execute(f'CREATE INDEX "{stream}/{partition} by key" ON {name} (key)')
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_full(file: Path) -> bool:
    return shutil.disk_usage(file.parent).free < MIB
