"""What `voxthread bus check` looks at: nothing is written, made or changed."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from anyio.to_thread import run_sync

from voxthread.bus.findings import BusReport, Finding, Severity
from voxthread.bus.open import BusOptions, kafka_settings, sqlite_file
from voxthread.bus.policies import MIB
from voxthread.bus.sqlite_file import FORMAT, bus_error

_WANTED_FREE_BYTES: Final = 2_048 * MIB


async def check_bus(url: str, options: BusOptions) -> BusReport:
    """Look at the bus that `url` names. Raises `BusError` `bus.bad_url`; all else is a finding."""
    if url == "memory":
        found = "the log lives in the one process that serves calls and ends with it"
        return BusReport("memory", (Finding(Severity.OK, "memory", found),))
    if (file := sqlite_file(url)) is not None:
        return BusReport("sqlite", tuple(await run_sync(lambda: [*_sqlite_findings(file)])))
    settings = kafka_settings(url, options)
    from voxthread.bus.kafka_check import kafka_findings

    return BusReport("kafka", tuple(await run_sync(kafka_findings, settings)))


def _sqlite_findings(file: Path) -> Iterator[Finding]:
    where = str(file)
    directory = next(parent for parent in file.absolute().parents if parent.exists())
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Finding(
            Severity.ERROR,
            where,
            f"{directory} may not be written to",
            f"give this user write access to {directory}",
        )
        return
    free = shutil.disk_usage(directory).free
    if free < _WANTED_FREE_BYTES:
        wanted = f"{_WANTED_FREE_BYTES // MIB} MiB"
        yield Finding(
            Severity.WARNING, where, f"only {free // MIB} MiB are free there", f"make room for {wanted}"
        )
    if not file.exists():
        yield Finding(Severity.OK, where, "is not there yet; the first start makes it")
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(where)}?mode=rw", uri=True)) as connection:
            yield from _content_findings(connection, where)
    except sqlite3.Error as error:
        yield Finding(Severity.ERROR, where, "cannot be read", bus_error(error, file).detail)


def _content_findings(connection: sqlite3.Connection, where: str) -> Iterator[Finding]:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        found = f"has format {version}, this version of Voxthread reads {FORMAT}"
        yield Finding(Severity.ERROR, where, found, "name another file, or run the version that made this one")
        return
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        mend = "stop every voxthread process, move the file away with its -wal and -shm, and start again"
        yield Finding(Severity.ERROR, where, f"is damaged: {verdict}", mend)
        return
    (partitions,) = connection.execute("SELECT partitions FROM log").fetchone()
    (size,) = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    ).fetchone()
    yield Finding(Severity.OK, where, f"is sound: {partitions} partitions, {size / MIB:.1f} MiB")
