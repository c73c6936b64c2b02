"""Partition claims on real buses: several workers on one loop, and as processes that are killed and stopped."""

import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream
from structlog.testing import capture_logs

from voxthread.bus.memory import MemoryBus
from voxthread.bus.sqlite import SqliteBus
from voxthread.core.failures import BusError
from voxthread.core.workers import DeathNotice
from voxthread.observability.clock import now_ms
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.orchestrator.claims import PartitionClaims
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SessionRegistry
from voxthread.wire.control import encode_control
from voxthread.wire.log import Bus, Record, StoredRecord, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PATIENCE_S = 20
PARTITIONS = 8


class Fleet:
    """Workers on one bus, and what the log has told each of them."""

    def __init__(self, bus: Bus, tasks: TaskGroup) -> None:
        self.bus = bus
        self.epochs: dict[str, dict[int, int]] = {}
        self._tasks = tasks
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._changed = anyio.Event()

    async def start(self, worker_id: str, bus: Bus | None = None) -> PartitionClaims:
        owned = self.epochs[worker_id] = {}

        def on_granted(partition: int, epoch: int, is_orphan: bool) -> None:
            assert partition not in owned
            owned[partition] = epoch
            self._changed.set()

        def on_lost(partition: int) -> None:
            del owned[partition]
            self._changed.set()

        def sessions() -> dict[int, int]:
            self._changed.set()  # asked at each heartbeat: a good time to look whether things are as awaited
            return dict.fromkeys(owned, 1)

        claims = PartitionClaims(
            bus or self.bus, worker_id, on_granted=on_granted, on_lost=on_lost, sessions=sessions
        )
        scope = self._scopes[worker_id] = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await claims.run()

        self._tasks.start_soon(run)
        claims.set_ready(True)
        return claims

    async def kill(self, worker_id: str) -> None:
        self._scopes[worker_id].cancel()
        await self.bus.append(
            Stream.CONTROL, 0, encode_control(DeathNotice(worker_id=worker_id, by="supervisor"))
        )

    async def until(self, *shares: int) -> None:
        """Wait until each worker owns so many."""
        await self._until(lambda: [len(owned) for owned in self.epochs.values()] == list(shares))

    async def until_logged(self, lines: Sequence[Mapping[str, object]], event: str) -> None:
        await self._until(lambda: any(line["event"] == event for line in lines))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed = anyio.Event()
            await self._changed.wait()


@asynccontextmanager
async def fleet(bus: Bus) -> AsyncIterator[Fleet]:
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            yield Fleet(bus, tasks)
            tasks.cancel_scope.cancel()


class AwayBus:
    """A bus that can be away for those who use it through this."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.is_away = False

    @property
    def partitions(self) -> int:
        return self._bus.partitions

    @property
    def closing(self) -> str | None:
        return self._bus.closing

    def _refuse_if_away(self) -> None:
        if self.is_away:
            raise BusError("bus.unreachable", "no broker answers", retryable=True)

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        self._refuse_if_away()
        return await self._bus.append(stream, partition, record)

    async def oldest(self, stream: Stream, partition: int) -> int:
        self._refuse_if_away()
        return await self._bus.oldest(stream, partition)

    async def head(self, stream: Stream, partition: int) -> int:
        self._refuse_if_away()
        return await self._bus.head(stream, partition)

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        async for stored in self._bus.read(stream, partition, from_position):
            self._refuse_if_away()
            yield stored


async def test_workers_share_and_the_living_take_over_from_the_dead() -> None:
    async with fleet(MemoryBus(PARTITIONS)) as workers:
        await workers.start("a")
        await workers.start("b")
        await workers.until(4, 4)
        before = dict(workers.epochs["a"])
        await workers.kill("a")
        await workers.until(4, 8)
        assert all(workers.epochs["b"][partition] > epoch for partition, epoch in before.items())


async def test_a_worker_that_vanishes_is_noticed_by_the_others() -> None:
    async with fleet(MemoryBus(PARTITIONS)) as workers:
        await workers.start("a")
        await workers.start("b")
        await workers.until(4, 4)
        workers._scopes["a"].cancel()
        with capture_logs() as lines:
            await workers.until(4, 8)
        assert [line["worker_id"] for line in lines if line["event"] == "worker.silent"] == ["a"]


async def test_a_drained_worker_hands_over_and_is_given_nothing_again() -> None:
    async with fleet(MemoryBus(PARTITIONS)) as workers:
        leaving = await workers.start("a")
        await workers.start("b")
        await workers.until(4, 4)
        await leaving.drain()
        assert not leaving.held
        await workers.until(0, 8)
        await workers.start("c")
        await workers.until(0, 4, 4)


async def test_a_bus_that_is_away_at_the_start_is_waited_for() -> None:
    bus = MemoryBus(PARTITIONS)
    away = AwayBus(bus)
    away.is_away = True
    async with fleet(bus) as workers:
        with capture_logs() as lines:
            await workers.start("a", away)
            await workers.until_logged(lines, "claims.bus_away")
            assert workers.epochs == {"a": {}}
            away.is_away = False
            await workers.until(8)
            assert [line["event"] for line in lines if "bus" in line["event"]] == [
                "claims.bus_away",
                "claims.bus_back",
            ]


async def test_what_is_owned_stays_owned_while_the_bus_is_away() -> None:
    bus = MemoryBus(PARTITIONS)
    away = AwayBus(bus)
    async with fleet(bus) as workers:
        await workers.start("a", away)
        await workers.until(8)
        before = dict(workers.epochs["a"])
        with capture_logs() as lines:
            away.is_away = True
            await workers.until_logged(lines, "claims.bus_away")
            away.is_away = False
            await workers.until_logged(lines, "claims.bus_back")
        assert workers.epochs["a"] == before
        assert [line["code"] for line in lines if line["event"] == "claims.bus_away"] == ["bus.unreachable"]


async def test_a_worker_cut_off_loses_its_partitions_when_it_is_back() -> None:
    bus = MemoryBus(PARTITIONS)
    away = AwayBus(bus)
    async with fleet(bus) as workers:
        await workers.start("a", away)
        await workers.start("b")
        await workers.until(4, 4)
        away.is_away = True
        await workers.until(4, 8)
        away.is_away = False
        await workers.until(0, 8)
        await workers.until(4, 4)


async def test_records_nobody_can_read_are_passed_over_and_counted() -> None:
    def malformed() -> float:
        streams = (Stream.CLAIMS, Stream.CONTROL)
        return sum(BUS_RECORDS_MALFORMED.labels(stream=stream)._value.get() for stream in streams)

    before = malformed()
    async with fleet(MemoryBus(PARTITIONS)) as workers:
        await workers.bus.append(Stream.CLAIMS, 0, Record("x", b"\x00garbage"))
        await workers.bus.append(Stream.CLAIMS, 0, Record("0", b'{"v":1,"claim":{"kind":"partition.sell"}}'))
        await workers.start("a")
        await workers.until(8)
        await workers.bus.append(Stream.CONTROL, 0, Record("a", b'{"v":1,"kind":"worker.sings","data":{}}'))
        await workers.start("b")
        await workers.until(4, 4)
    assert malformed() - before == 2 * 2 + 1


async def test_claims_of_sessions_and_of_partitions_do_not_disturb_each_other() -> None:
    bus = MemoryBus(PARTITIONS)
    registry = SessionRegistry(bus, media_id="media_a", mint=SessionIdMint(), invalid_ids=InvalidIds())
    async with fleet(bus) as workers, anyio.create_task_group() as tasks:
        await tasks.start(registry.run)
        with capture_logs() as lines:
            await workers.start("a")
            await workers.until(8)
            session, _ = await registry.get_or_create_session(
                None, principal="p", agent="hotel", partition=0, token_sha256=b"t" * 32, component="ws"
            )
            await workers.start("b")
            await workers.until(4, 4)
            await registry.close(session.session_id, "over")
        assert not [line for line in lines if line["log_level"] != "info"]
        tasks.cancel_scope.cancel()


# -- as processes ---------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A worker in a process of its own, and what it has said."""

    process: Process
    epochs: dict[int, int] = field(default_factory=dict)
    said_ms: int = 0

    def hear(self, line: bytes) -> None:
        match line.split():
            case [b"granted", partition, epoch, at_ms]:
                self.epochs[int(partition)] = int(epoch)
            case [b"lost", partition, at_ms]:
                del self.epochs[int(partition)]
            case _:
                raise AssertionError(line)
        self.said_ms = int(at_ms)


class Processes:
    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._changed = anyio.Event()

    async def listen(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        lines = BufferedByteReceiveStream(worker.process.stdout)
        with suppress(anyio.IncompleteRead):
            while True:
                worker.hear(await lines.receive_until(b"\n", 200))
                self._changed.set()

    async def until(self, *shares: int) -> None:
        while [len(worker.epochs) for worker in self.workers] != list(shares):
            self._changed = anyio.Event()
            await self._changed.wait()


@asynccontextmanager
async def two_processes(file: Path) -> AsyncIterator[tuple[Processes, Worker, Worker]]:
    """Workers "a" and "b", with four partitions each."""
    command = [sys.executable, str(Path(__file__).with_name("claims_worker.py")), str(file)]
    with anyio.fail_after(PATIENCE_S):
        workers = [Worker(await anyio.open_process([*command, name], stderr=None)) for name in ("a", "b")]
        processes = Processes(workers)
        try:
            async with anyio.create_task_group() as tasks:
                for worker in workers:
                    tasks.start_soon(processes.listen, worker)
                await processes.until(4, 4)
                yield processes, *workers
                tasks.cancel_scope.cancel()
        finally:
            for worker in workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                with anyio.CancelScope(shield=True):
                    await worker.process.aclose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def bus(file: Path) -> AsyncIterator[SqliteBus]:
    async with SqliteBus(file, PARTITIONS) as bus:
        yield bus


async def test_partitions_of_a_killed_process_are_granted_at_once(bus: SqliteBus, file: Path) -> None:
    async with two_processes(file) as (processes, killed, successor):
        killed.process.kill()
        await killed.process.wait()
        noticed_ms = now_ms()
        await bus.append(Stream.CONTROL, 0, encode_control(DeathNotice(worker_id="a", by="supervisor")))
        await processes.until(4, 8)
        assert successor.said_ms - noticed_ms < 300, "far less than a lease, whatever the machine does"


async def test_partitions_of_a_stopped_process_are_granted_after_a_lease_and_it_loses_them(
    bus: SqliteBus, file: Path
) -> None:
    async with two_processes(file) as (processes, zombie, successor):
        before = dict(zombie.epochs)
        zombie.process.send_signal(signal.SIGSTOP)
        await processes.until(4, 8)
        assert all(successor.epochs[partition] > epoch for partition, epoch in before.items())
        zombie.process.send_signal(signal.SIGCONT)
        await processes.until(0, 8)
        await processes.until(4, 4)


async def test_a_process_told_to_leave_hands_over_before_it_ends(bus: SqliteBus, file: Path) -> None:
    async with two_processes(file) as (processes, leaving, _):
        assert leaving.process.stdin is not None
        await leaving.process.stdin.aclose()
        await processes.until(0, 8)
        assert await leaving.process.wait() == 0
