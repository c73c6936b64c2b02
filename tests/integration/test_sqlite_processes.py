"""The SQLite bus among processes that are killed, and on a disk that is full or a file that is damaged."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from statistics import median
from time import monotonic

import anyio
import pytest

from conftest import SkipLoudly
from contract.bus_contract import take
from voxthread.bus.sqlite import SqliteBus
from voxthread.bus.sqlite_reader import LOOK_INTERVAL_S
from voxthread.core.failures import BusError
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

WRITER = Path(__file__).with_name("bus_writer.py")
FULL_DISK = Path(__file__).with_name("full_disk.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def bus(file: Path) -> AsyncIterator[SqliteBus]:
    async with SqliteBus(file) as bus:
        yield bus


def started_writer(file: Path, partition: int, name: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(WRITER), str(file), str(partition), name, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed_after(writer: "subprocess.Popen[str]", records: int) -> list[int]:
    """What it had acknowledged when it was killed, not caring what it was doing then."""
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(records)]
    writer.kill()
    rest, _ = writer.communicate()
    return acknowledged + [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]


async def test_writers_killed_mid_append_lose_nothing_acknowledged(bus: SqliteBus, file: Path) -> None:
    for attempt in range(5):
        start = await bus.head(Stream.IN, 0)
        writer = started_writer(file, 0, str(attempt))
        acknowledged = await anyio.to_thread.run_sync(killed_after, writer, 100 + 37 * attempt)
        await bus.append(Stream.IN, 0, Record("end", b"0"))
        stored = await take(bus, Stream.IN, 0, start, await bus.head(Stream.IN, 0) - start)
        numbers = [int(each.record.value) for each in stored if each.record.key == str(attempt)]
        assert set(acknowledged) <= set(numbers)
        assert len(set(numbers)) == len(numbers)
        assert all(len(each.record.value) > 5_000 for each in stored[:-1])


async def test_two_processes_that_append_at_once_share_one_dense_order(bus: SqliteBus, file: Path) -> None:
    writers = [started_writer(file, 0, name, "300") for name in ("a", "b")]
    stored = await take(bus, Stream.IN, 0, 0, 600)
    for writer in writers:
        await anyio.to_thread.run_sync(writer.communicate)
    assert [each.position for each in stored] == list(range(600))
    for name in ("a", "b"):
        numbers = [int(each.record.value) for each in stored if each.record.key == name]
        assert sorted(numbers) == list(range(300))


async def test_a_reader_is_woken_by_an_append_of_another_process(bus: SqliteBus, file: Path) -> None:
    """The writer says when a record is acknowledged; the reader must have it long before it would look."""
    gaps_s: list[float] = []
    async with aclosing(bus.read(Stream.IN, 0, 0)) as records:
        writer = started_writer(file, 0, "a", "200")
        await anext(records)
        before = monotonic()
        for _ in range(199):
            await anext(records)
            gaps_s.append(monotonic() - before)
            before = monotonic()
    await anyio.to_thread.run_sync(writer.communicate)
    assert median(gaps_s) < LOOK_INTERVAL_S / 10


async def test_a_record_whose_wake_was_lost_is_read_all_the_same(bus: SqliteBus, file: Path) -> None:
    async with aclosing(bus.read(Stream.IN, 0, 0)) as records:
        await bus.append(Stream.IN, 0, Record("a", b"first"))
        await anext(records)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, write_silently, file)
                assert (await anext(records)).record.value == b"silent"


async def append_many(bus: SqliteBus, stream: Stream, count: int, value: bytes) -> None:
    for _ in range(count):
        await bus.append(stream, 0, Record("a", value))


def write_silently(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("""INSERT INTO "voxthread.in/0" VALUES (1, 0, 99, 'a', NULL, x'73696c656e74')""")


async def test_a_full_disk_is_told_and_nothing_that_was_stored_is_hurt(bus: SqliteBus, file: Path) -> None:
    """The page limit of SQLite stands for the disk: both end in the same SQLITE_FULL."""
    await bus.append(Stream.EVENTS, 0, Record("a", b"kept"))
    (pages,) = bus._writer._connection.execute("PRAGMA page_count").fetchone()
    bus._writer._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(BusError) as raised:
        await append_many(bus, Stream.EVENTS, 100, b"x" * 10_000)
    assert (raised.value.code, raised.value.retryable) == ("bus.disk_full", False)
    assert str(file) in raised.value.detail
    assert (await take(bus, Stream.EVENTS, 0, 0, 1))[0].record.value == b"kept"

    bus._writer._connection.execute("PRAGMA max_page_count = 4294967294")  # somebody made room
    position = await bus.append(Stream.EVENTS, 0, Record("a", b"after"))
    assert (await take(bus, Stream.EVENTS, 0, position, 1))[0].record.value == b"after"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_disk_that_is_full_leaves_room_for_last_words_and_is_used_again_when_there_is_room(
    tmp_path: Path, skip_loudly: SkipLoudly
) -> None:
    own_mounts = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "true"], capture_output=True, check=False).returncode:
        skip_loudly("mounts", "this user may not mount a small disk in a namespace of its own")
    command = [*own_mounts, sys.executable, str(FULL_DISK), str(tmp_path)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    told = json.loads(ended.stdout)
    assert told["taken_at_first"] > 100
    assert "no room left" in told["closing"]
    assert told["after_the_reserve"] == "bus.disk_full False"
    assert (told["integrity"], told["last_words"]) == ("ok", 101)


@pytest.mark.parametrize("damage", ["no database", "another version", "another database"])
async def test_a_file_that_cannot_be_used_is_named_and_left_alone(file: Path, damage: str) -> None:
    before = make_unusable(file, damage)
    with pytest.raises(BusError) as raised:
        async with SqliteBus(file):
            pass
    assert not raised.value.retryable
    assert str(file) in raised.value.detail
    if damage == "no database":
        assert raised.value.code == "bus.corrupt"
        assert await anyio.Path(file).read_bytes() == before


def make_unusable(file: Path, damage: str) -> bytes:
    if damage == "no database":
        file.write_bytes(b"RIFF" * 4_096)
    else:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE log (something TEXT)")
            connection.execute(f"PRAGMA user_version = {99 if damage == 'another version' else 0}")
    return file.read_bytes()


async def test_a_page_damaged_below_the_running_bus_is_told_to_who_reads_it(file: Path) -> None:
    async with SqliteBus(file) as bus:
        await append_many(bus, Stream.IN, 200, b"x" * 4_000)
    damage_second_half(file)
    with pytest.raises(BusError) as raised:
        async with SqliteBus(file) as bus:
            await take(bus, Stream.IN, 0, 0, 200)
    assert raised.value.code == "bus.corrupt"
    assert f"{file.name}-wal" in raised.value.detail


def damage_second_half(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as pages:
        pages.seek(size // 2)
        pages.write(b"\xff" * (size // 2))


async def test_a_path_too_long_for_a_socket_wakes_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 4)
    async with (
        SqliteBus(deep / "log.db") as bus,
        SqliteBus(deep / "log.db") as other,
        aclosing(other.read(Stream.IN, 0, 0)) as records,
    ):
        await bus.append(Stream.IN, 0, Record("a", b"v"))
        with anyio.fail_after(5):
            assert (await anext(records)).record.value == b"v"
