"""What brokers do to calls: they stop, die, come back, lose a leader. Nothing acknowledged may be lost."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from confluent_kafka import KafkaError

from kafka.brokers import Cluster
from voxthread.bus.kafka import KafkaBus
from voxthread.bus.kafka_settings import KafkaSettings
from voxthread.core.failures import BusError
from voxthread.orchestrator.log_writer import patiently
from voxthread.wire.log import Bus, Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(120)]

RECORDS_PER_S = 50


StartKafka = Callable[[int, Path], AbstractContextManager[Cluster]]


@pytest.fixture(scope="module")
def one_broker(tmp_path_factory: pytest.TempPathFactory, start_kafka: StartKafka) -> Iterator[Cluster]:
    with start_kafka(1, tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture
def three_brokers(tmp_path: Path, start_kafka: StartKafka) -> Iterator[Cluster]:
    with start_kafka(3, tmp_path) as cluster:
        yield cluster


def settings(cluster: Cluster, append_timeout_ms: int = 30_000) -> KafkaSettings:
    return KafkaSettings(
        servers=cluster.bootstrap, topic_prefix=f"{uuid4().hex[:8]}.", append_timeout_ms=append_timeout_ms
    )


@pytest.fixture
async def bus(one_broker: Cluster) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(settings(one_broker)) as bus:
        yield bus


class Talk:
    """A writer of 50 records a second and a reader that follows it, through whatever happens meanwhile."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.sent = 0
        self.acknowledged: list[int] = []
        self.seen: list[int] = []
        self.doubled = 0
        self._news = anyio.Event()

    async def go_on(self, records: int) -> None:
        async with anyio.create_task_group() as appends:
            for _ in range(records):
                appends.start_soon(self._append, self.sent)
                self.sent += 1
                await anyio.sleep(1 / RECORDS_PER_S)

    async def _append(self, number: int) -> None:
        await self._bus.append(Stream.IN, 0, Record("session_1", str(number).encode()))
        self.acknowledged.append(number)
        self._news.set()

    async def follow(self) -> None:
        async with aclosing(self._bus.read(Stream.IN, 0, 0)) as records:
            async for stored in records:
                number = int(stored.record.value)
                if number in self.seen:
                    self.doubled += 1  # which readers drop
                else:
                    self.seen.append(number)
                self._news.set()

    async def until_seen(self, count: int) -> None:
        await self._until(self.seen, count)

    async def until_acknowledged(self, count: int) -> None:
        await self._until(self.acknowledged, count)

    async def _until(self, numbers: list[int], count: int) -> None:
        with anyio.fail_after(30):
            while len(numbers) < count:
                self._news = anyio.Event()
                await self._news.wait()


async def test_a_broker_that_stops_for_2_s_loses_doubles_and_disorders_nothing(
    one_broker: Cluster, bus: KafkaBus
) -> None:
    talk = Talk(bus)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.follow)
        tasks.start_soon(talk.go_on, 200)
        await talk.until_seen(25)
        one_broker.brokers[0].signal(signal.SIGSTOP)
        await anyio.sleep(2)
        one_broker.brokers[0].signal(signal.SIGCONT)
        await talk.until_seen(200)
        tasks.cancel_scope.cancel()
    assert (talk.seen, talk.doubled) == (list(range(200)), 0)


async def test_a_broker_killed_and_started_again_loses_doubles_and_disorders_nothing(
    one_broker: Cluster, bus: KafkaBus
) -> None:
    talk = Talk(bus)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.follow)
        tasks.start_soon(talk.go_on, 400)
        await talk.until_seen(25)
        await anyio.to_thread.run_sync(one_broker.brokers[0].kill)
        one_broker.brokers[0].start()
        await talk.until_seen(400)
        tasks.cancel_scope.cancel()
    assert (talk.seen, talk.doubled) == (list(range(400)), 0)


async def test_an_append_gives_up_after_its_bound_and_may_be_tried_again(one_broker: Cluster) -> None:
    async with KafkaBus(settings(one_broker, append_timeout_ms=1_000)) as bus:
        await bus.append(Stream.IN, 0, Record("session_1", b"before"))
        one_broker.brokers[0].signal(signal.SIGSTOP)
        try:
            with anyio.fail_after(5), pytest.raises(BusError) as raised:
                await bus.append(Stream.IN, 0, Record("session_1", b"meanwhile"))
        finally:
            one_broker.brokers[0].signal(signal.SIGCONT)
        assert (raised.value.code, raised.value.retryable) == ("bus.unreachable", True)
        with anyio.fail_after(10):
            while await refused(bus):
                pass


async def test_without_its_broker_a_partition_is_asked_for_its_ends_again_and_again(
    one_broker: Cluster, bus: KafkaBus
) -> None:
    await bus.append(Stream.IN, 0, Record("session_1", b"before"))
    assert await bus.head(Stream.IN, 0) == 1
    await anyio.to_thread.run_sync(one_broker.brokers[0].kill)
    try:
        for ask in (bus.head, bus.oldest):
            with pytest.raises(BusError) as raised:
                await ask(Stream.IN, 0)
            assert raised.value.retryable, raised.value
    finally:
        one_broker.brokers[0].start()
    with anyio.fail_after(30):
        assert await patiently(Stream.IN, lambda: bus.head(Stream.IN, 0)) == 1


async def refused(bus: KafkaBus) -> bool:
    try:
        await bus.append(Stream.IN, 0, Record("session_1", b"after"))
    except BusError as error:
        if not error.retryable:
            raise
        return True
    return False


async def test_a_producer_that_fails_for_good_is_replaced_and_what_was_not_acknowledged_is_sent_again(
    one_broker: Cluster, bus: KafkaBus
) -> None:
    talk = Talk(bus)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.follow)
        tasks.start_soon(talk.go_on, 100)
        await talk.until_seen(25)
        one_broker.brokers[0].signal(signal.SIGSTOP)
        await anyio.sleep(0.3)
        lost = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "the broker lost the log's end", fatal=True)
        bus._producer._take_error(lost)
        await anyio.sleep(0.3)
        one_broker.brokers[0].signal(signal.SIGCONT)
        await talk.until_acknowledged(100)
        await talk.until_seen(100)
        tasks.cancel_scope.cancel()
    assert talk.seen == list(range(100))


async def test_without_a_broker_opening_fails_and_may_be_tried_again() -> None:
    with anyio.fail_after(15), pytest.raises(BusError) as raised:
        async with KafkaBus(KafkaSettings(servers="127.0.0.1:1")):
            pass
    assert (raised.value.code, raised.value.retryable) == ("bus.unreachable", True)


async def test_the_leader_of_three_killed_loses_nothing_acknowledged(three_brokers: Cluster) -> None:
    config = settings(three_brokers)
    async with KafkaBus(config) as bus:
        talk = Talk(bus)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk.follow)
            tasks.start_soon(talk.go_on, 600)
            await talk.until_seen(25)
            await anyio.to_thread.run_sync(three_brokers.leader(config.topic_prefix + Stream.IN, 0).kill)
            await talk.until_seen(600)
            tasks.cancel_scope.cancel()
    assert (talk.seen, talk.doubled) == (list(range(600)), 0)
