"""A log on a small disk that fills up: `full_disk.py DIRECTORY`, in a mount namespace of its own.

Prints a line of JSON: what became of the appends before and after the reserve was spent, and of the file.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio

from voxthread.bus.policies import MIB
from voxthread.bus.sqlite import SqliteBus
from voxthread.bus.sqlite_reserve import Reserve
from voxthread.core.failures import BusError
from voxthread.observability.logs import configure_logging
from voxthread.wire.log import Record, Stream

RECORD = Record("session_1", os.urandom(20_000))
LAST_WORDS = Record("session_1", b"goodbye")


async def fill(bus: SqliteBus) -> int:
    """Append until the log says that it closes; how many records it took."""
    count = 0
    while bus.closing is None:
        await bus.append(Stream.EVENTS, 0, RECORD)
        count += 1
    return count


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not is_so():  # noqa: ASYNC110  buses look at the disk now and then
            await anyio.sleep(0.05)


async def exhaust(bus: SqliteBus) -> str:
    while True:
        try:
            await bus.append(Stream.EVENTS, 0, RECORD)
        except BusError as error:
            return f"{error.code} {error.retryable}"


async def main(directory: Path) -> dict[str, object]:
    file, ballast = directory / "log.db", directory / "ballast"
    ballast.write_bytes(bytes(20 * MIB))
    reserve = Reserve(file, room_bytes=MIB)
    told: dict[str, object] = {}
    async with SqliteBus(file, reserve=reserve) as bus, SqliteBus(file, reserve=reserve) as other:
        told["taken_at_first"] = await fill(bus)
        for _ in range(100):
            await other.append(Stream.OUT, 0, LAST_WORDS)
        await until(lambda: other.closing is not None)
        told["closing"] = other.closing
        told["after_the_reserve"] = await exhaust(bus)
        ballast.unlink()
        await until(lambda: bus.closing is None and other.closing is None)
        await bus.append(Stream.OUT, 0, LAST_WORDS)
    with closing(sqlite3.connect(file)) as connection:
        told["integrity"] = connection.execute("PRAGMA integrity_check").fetchone()[0]
        told["last_words"] = connection.execute('SELECT count(*) FROM "voxthread.out/0"').fetchone()[0]
    return told


if __name__ == "__main__":
    configure_logging("warning")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", sys.argv[1]], check=True)
    sys.stdout.write(json.dumps(anyio.run(main, Path(sys.argv[1]))))
