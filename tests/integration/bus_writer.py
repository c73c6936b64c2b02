"""A process that appends to a SQLite bus until it is killed: `bus_writer.py FILE PARTITION NAME`.

It prints each number once that record is acknowledged; with a fourth argument it appends so many and ends.
"""

import sys
from pathlib import Path

import anyio

from voxthread.bus.sqlite import SqliteBus
from voxthread.wire.log import Record, Stream

AT_ONCE = 20


async def main(file: str, partition: int, name: str, count: int | None) -> None:
    numbers = iter(range(count)) if count is not None else iter(range(sys.maxsize))

    async def write() -> None:
        for number in numbers:
            await bus.append(Stream.IN, partition, Record(name, str(number).encode() + b" " * 5_000))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    async with SqliteBus(Path(file)) as bus, anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(write)


if __name__ == "__main__":
    limit = int(sys.argv[4]) if len(sys.argv) > 4 else None
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], limit)
