"""The SQLite bus against the contract of every bus, and what is its own."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import anyio
import pytest
from prometheus_client import REGISTRY

from contract.bus_contract import PATIENCE_S, BusContract, numbered, take, values
from voxthread.bus.policies import COMPACTION_LAG_MS, HOUR_MS, POLICIES, TOMBSTONE_MS, Policy
from voxthread.bus.sqlite import SqliteBus
from voxthread.bus.sqlite_file import connect, insert, places, prepare, table
from voxthread.bus.sqlite_reader import Reading, SqliteReader
from voxthread.bus.sqlite_retention import BACKLOG_INTERVAL_S, STEP_ROWS, Sweep
from voxthread.bus.wakes import Wakes
from voxthread.core.failures import BusError
from voxthread.wire.log import Record, Stream

pytestmark = pytest.mark.contract


class TestSqliteBus(BusContract):
    hop_ms = 5

    @pytest.fixture
    async def bus(self, tmp_path: Path) -> AsyncIterator[SqliteBus]:
        async with SqliteBus(tmp_path / "log.db") as bus:
            yield bus

    @pytest.fixture
    async def other_bus(self, bus: SqliteBus, tmp_path: Path) -> AsyncIterator[SqliteBus]:
        async with SqliteBus(tmp_path / "log.db") as other:
            yield other


# -- retention --------------------------------------------------------------------------------------------

SMALL = MappingProxyType(
    {
        **dict.fromkeys(Stream, Policy(age_ms=10_000, partition_bytes=1_000_000)),
        Stream.STATE: Policy(age_ms=10 * TOMBSTONE_MS, partition_bytes=1_000_000, compacted=True),
    }
)
KEY = "k"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    prepare(tmp_path / "log.db", 1)
    with closing(connect(tmp_path / "log.db")) as connection:
        yield connection


def store(log: sqlite3.Connection, stream: Stream, *, at_ms: int, value: bytes = b"v", key: str = KEY) -> None:
    insert(log, table((stream, 0)), (at_ms, len(value), key, None, value))


def kept(log: sqlite3.Connection, stream: Stream) -> list[int]:
    rows = log.execute(f"SELECT position FROM {table((stream, 0))} ORDER BY position")
    return [position for (position,) in rows]


def sweep(log: sqlite3.Connection, stream: Stream, now_ms: int) -> int:
    """Sweep until nothing is left to do and return the steps it took."""
    swept = Sweep([(stream, 0)], SMALL)
    steps = 1
    while swept.step(log, now_ms) == BACKLOG_INTERVAL_S:
        steps += 1
    return steps


def test_records_older_than_the_stream_keeps_are_dropped(log: sqlite3.Connection) -> None:
    for n in range(10):
        store(log, Stream.IN, at_ms=n * 1_000)
    sweep(log, Stream.IN, now_ms=14_500)
    assert kept(log, Stream.IN) == [5, 6, 7, 8, 9]


def test_records_beyond_the_size_of_a_partition_are_dropped(log: sqlite3.Connection) -> None:
    for _ in range(10):
        store(log, Stream.IN, at_ms=0, value=b"x" * 300_000)
    sweep(log, Stream.IN, now_ms=0)
    assert kept(log, Stream.IN) == [6, 7, 8, 9]  # the one that reaches over the bound stays


def test_the_newest_record_is_kept_whatever_its_age_so_positions_go_on(log: sqlite3.Connection) -> None:
    for _ in range(5):
        store(log, Stream.IN, at_ms=0)
    sweep(log, Stream.IN, now_ms=1_000_000)
    assert kept(log, Stream.IN) == [4]
    store(log, Stream.IN, at_ms=1_000_000)
    assert kept(log, Stream.IN) == [4, 5]


def test_a_backlog_is_dropped_in_steps(log: sqlite3.Connection) -> None:
    for _ in range(5 * STEP_ROWS):
        store(log, Stream.IN, at_ms=0)
    assert sweep(log, Stream.IN, now_ms=1_000_000) == 5
    assert len(kept(log, Stream.IN)) == 1


def test_records_out_of_the_order_of_time_leave_no_hole(log: sqlite3.Connection) -> None:
    for at_ms in (0, 9_000, 0, 9_000):
        store(log, Stream.IN, at_ms=at_ms)
    sweep(log, Stream.IN, now_ms=15_000)
    assert kept(log, Stream.IN) == [1, 2, 3]


def test_a_compacted_stream_keeps_the_newest_of_each_key(log: sqlite3.Connection) -> None:
    for n in range(3 * STEP_ROWS):
        store(log, Stream.STATE, at_ms=0, key=f"session_{n % 3}")
    sweep(log, Stream.STATE, now_ms=COMPACTION_LAG_MS + 1)
    assert kept(log, Stream.STATE) == [3 * STEP_ROWS - 3, 3 * STEP_ROWS - 2, 3 * STEP_ROWS - 1]


def test_a_compacted_stream_keeps_what_readers_may_still_follow(log: sqlite3.Connection) -> None:
    for _ in range(3):
        store(log, Stream.STATE, at_ms=0)
    sweep(log, Stream.STATE, now_ms=COMPACTION_LAG_MS - 1)
    assert kept(log, Stream.STATE) == [0, 1, 2]


def test_a_compacted_stream_forgets_a_key_that_ended(log: sqlite3.Connection) -> None:
    store(log, Stream.STATE, at_ms=0, key="ended")
    store(log, Stream.STATE, at_ms=0, key="ended", value=b"")
    store(log, Stream.STATE, at_ms=0, key="open")
    sweep(log, Stream.STATE, now_ms=COMPACTION_LAG_MS + 1)
    assert kept(log, Stream.STATE) == [1, 2]
    sweep(log, Stream.STATE, now_ms=TOMBSTONE_MS + 1)
    assert kept(log, Stream.STATE) == [2]


@pytest.mark.anyio
async def test_a_reader_overtaken_by_retention_is_told_so_and_can_begin_at_the_oldest(tmp_path: Path) -> None:
    policies = {**POLICIES, Stream.IN: Policy(age_ms=HOUR_MS, partition_bytes=100)}
    async with SqliteBus(tmp_path / "log.db", partitions=1, policies=policies) as bus:
        for record in numbered(200):
            await bus.append(Stream.IN, 0, record)
        with anyio.fail_after(PATIENCE_S):
            while await bus.oldest(Stream.IN, 0) == 0:
                await bus.append(Stream.IN, 0, Record("session_1", b"more"))
        with pytest.raises(BusError) as raised:
            await take(bus, Stream.IN, 0, 0, 1)
        assert (raised.value.code, raised.value.retryable) == ("bus.position_expired", False)
        oldest = await bus.oldest(Stream.IN, 0)
        with anyio.fail_after(PATIENCE_S):
            assert (await take(bus, Stream.IN, 0, oldest, 1))[0].position >= oldest


@pytest.mark.anyio
async def test_a_file_keeps_the_partitions_it_was_made_with(tmp_path: Path) -> None:
    async with SqliteBus(tmp_path / "log.db", partitions=3) as bus:
        assert bus.partitions == 3
    async with SqliteBus(tmp_path / "log.db", partitions=8) as bus:
        assert bus.partitions == 3


@pytest.mark.anyio
async def test_a_log_opened_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    async with SqliteBus(tmp_path / "log.db") as bus:
        await bus.append(Stream.CLAIMS, 0, Record("a", b"1"))
    async with SqliteBus(tmp_path / "log.db") as bus:
        assert await bus.append(Stream.CLAIMS, 0, Record("a", b"2")) == 1
        assert values(await take(bus, Stream.CLAIMS, 0, 0, 2)) == [b"1", b"2"]


@pytest.mark.anyio
async def test_a_closed_bus_refuses_and_ends_its_readers(tmp_path: Path) -> None:
    async with SqliteBus(tmp_path / "log.db") as bus:
        reader = bus.read(Stream.IN, 0, 0)
    for use in (bus.append(Stream.IN, 0, Record("a", b"1")), bus.head(Stream.IN, 0), anext(reader)):
        with pytest.raises(BusError) as raised:
            await use
        assert raised.value.code == "bus.closed"


# -- what others wrote ------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "is_counted"),
    [(b"\x91\x92\xa1\xff\xc4\x00", True), (b"\xc1", True), ("text", True), (None, False)],
)
async def test_rows_nobody_of_ours_wrote_are_read_as_well_as_can_be_and_those_behind_them(
    tmp_path: Path, headers: bytes | str | None, *, is_counted: bool
) -> None:
    async with SqliteBus(tmp_path / "log.db", 1) as bus:
        before = malformed(Stream.IN)
        with closing(connect(tmp_path / "log.db")) as log:
            log.execute(
                f"INSERT INTO {table((Stream.IN, 0))} VALUES (0, 0, 1, CAST(x'ff' AS TEXT), ?, 'words')",
                (headers,),
            )
        await bus.append(Stream.IN, 0, Record(KEY, b"next"))
        odd, following = await take(bus, Stream.IN, 0, 0, 2)
        assert odd.record == Record("\N{REPLACEMENT CHARACTER}", b"words")
        assert following.record == Record(KEY, b"next")
        assert malformed(Stream.IN) == before + is_counted


@pytest.mark.anyio
async def test_readers_are_told_when_the_thread_that_reads_for_them_dies(
    tmp_path: Path, log: sqlite3.Connection
) -> None:
    (tmp_path / "wakes").mkdir()
    wakes = Wakes(tmp_path / "wakes")
    reader = SqliteReader(tmp_path / "log.db", log, wakes, places(1))
    reader.start()
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            with pytest.raises(BusError, match="OSError") as raised:
                await reader.next_rows(Reading((Stream.IN, 0), 0))
            assert (raised.value.code, raised.value.retryable) == ("bus.failed", False)

        with anyio.fail_after(PATIENCE_S):
            tasks.start_soon(follow)
            assert await reader.ask("SELECT 7") == 7
            wakes.close()
    with pytest.raises(BusError, match="OSError"):
        await reader.ask("SELECT 7")
    reader.stop()


def malformed(stream: Stream) -> float:
    return REGISTRY.get_sample_value("voxthread_bus_records_malformed_total", {"stream": stream}) or 0
