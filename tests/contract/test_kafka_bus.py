"""The Kafka bus against the contract of every bus, on a real broker."""

import ctypes
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import Enum, auto
from uuid import uuid4

import anyio
import pytest
from anyio import to_thread
from confluent_kafka import KafkaError, cimpl
from prometheus_client import REGISTRY

from contract.bus_contract import PATIENCE_S, BusContract, numbered, take
from kafka.brokers import free_ports
from voxthread.bus.kafka import KafkaBus
from voxthread.bus.kafka_consumer import KafkaConsumer
from voxthread.bus.kafka_settings import KafkaSettings
from voxthread.core.failures import BusError
from voxthread.wire.log import Record, Stream

pytestmark = pytest.mark.contract


class Head(Enum):
    REFUSED = auto()
    NEVER = auto()


class HeadlessBus(KafkaBus):
    """Where a partition ends cannot be known."""

    def __init__(self, settings: KafkaSettings, head_is: Head) -> None:
        super().__init__(settings)
        self._head_is = head_is

    async def head(self, stream: Stream, partition: int) -> int:
        if self._head_is is Head.NEVER:
            await anyio.sleep_forever()
        raise BusError("bus.unreachable", "nobody knows", retryable=True)


@pytest.fixture(scope="module")
def kafka_settings(kafka_bootstrap: str) -> KafkaSettings:
    return KafkaSettings(servers=kafka_bootstrap, topic_prefix=f"test-{uuid4().hex[:8]}.")


class TestKafkaBus(BusContract):
    hop_ms = 20

    @pytest.fixture
    async def bus(self, kafka_settings: KafkaSettings) -> AsyncIterator[KafkaBus]:
        async with KafkaBus(kafka_settings) as bus:
            yield bus

    @pytest.fixture
    async def other_bus(self, bus: KafkaBus, kafka_settings: KafkaSettings) -> AsyncIterator[KafkaBus]:
        async with KafkaBus(kafka_settings) as other:
            yield other

    async def test_reading_from_beyond_the_end_says_that_records_are_lost(self, bus: KafkaBus) -> None:
        head = await bus.head(Stream.OUT, 0)
        with pytest.raises(BusError) as raised:
            await take(bus, Stream.OUT, 0, head + 5, 1)
        assert (raised.value.code, raised.value.retryable) == ("bus.position_lost", False)

    async def test_a_record_whose_header_name_is_not_utf8_is_read_without_headers_and_counted(
        self, bus: KafkaBus, kafka_settings: KafkaSettings
    ) -> None:
        head, before = await bus.head(Stream.IN, 0), malformed(Stream.IN)
        for record in numbered(64):  # CPython specializes code that runs often, and then checks less
            await bus.append(Stream.IN, 0, record)
        topic = kafka_settings.topic_prefix + Stream.IN
        await to_thread.run_sync(produce, kafka_settings.servers, topic, b"odd", b"\xff")
        await bus.append(Stream.IN, 0, Record("session_1", b"next", (("name", b"content"),)))
        *_, odd, following = await take(bus, Stream.IN, 0, head, 66)
        assert (odd.position, odd.record.value, odd.record.headers) == (head + 64, b"odd", ())
        assert following.record == Record("session_1", b"next", (("name", b"content"),))
        assert malformed(Stream.IN) == before + 1

    @pytest.mark.parametrize("head_is", [Head.REFUSED, Head.NEVER])
    async def test_a_bus_that_cannot_be_entered_leaves_nothing_behind(
        self, bus: KafkaBus, kafka_settings: KafkaSettings, head_is: Head
    ) -> None:
        before = {*threading.enumerate()}
        with anyio.move_on_after(1), suppress(BusError):
            async with HeadlessBus(kafka_settings, head_is):
                pytest.fail("it was entered")
        assert [thread.name for thread in {*threading.enumerate()} - before if is_ours(thread)] == []


@pytest.mark.anyio
async def test_readers_are_told_when_the_thread_that_reads_for_them_dies() -> None:
    failures = [ZeroDivisionError()]

    def fail(_error: KafkaError) -> None:
        if failures:
            raise failures.pop()

    (port,) = free_ports(1)
    consumer = KafkaConsumer(KafkaSettings(servers=f"127.0.0.1:{port}"), fail)
    following = consumer.follow(("topic", 0), 0)
    consumer.start()
    with anyio.fail_after(PATIENCE_S), pytest.raises(BusError) as raised:
        await following.next_record()
    assert (raised.value.code, raised.value.retryable) == ("bus.failed", False)
    with pytest.raises(BusError, match="ZeroDivisionError"):
        consumer.follow(("topic", 0), 0)
    consumer.join()


def is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("bus-")


def malformed(stream: Stream) -> float:
    return REGISTRY.get_sample_value("voxthread_bus_records_malformed_total", {"stream": stream}) or 0


def produce(servers: str, topic: str, value: bytes, header: bytes) -> None:
    """Append to partition 0 by librdkafka itself: the Python client writes only names that are UTF-8."""
    kafka, said = ctypes.CDLL(cimpl.__file__), ctypes.create_string_buffer(512)
    kafka.rd_kafka_conf_new.restype = kafka.rd_kafka_new.restype = ctypes.c_void_p
    settings = ctypes.c_void_p(kafka.rd_kafka_conf_new())
    size = ctypes.c_size_t(len(said))
    kafka.rd_kafka_conf_set(settings, b"bootstrap.servers", servers.encode(), said, size)
    producer = ctypes.c_void_p(kafka.rd_kafka_new(0, settings, said, size))
    place = (1, topic.encode(), 3, ctypes.c_int32(0))  # RD_KAFKA_VTYPE_TOPIC, _PARTITION
    content = (4, value, ctypes.c_size_t(len(value)), 7, 2)  # _VALUE, _MSGFLAGS: RD_KAFKA_MSG_F_COPY
    headers = (9, header, b"v", ctypes.c_ssize_t(1))  # _HEADER
    assert kafka.rd_kafka_producev(producer, *place, *content, *headers, 0) == 0
    assert kafka.rd_kafka_flush(producer, 1000 * PATIENCE_S) == 0
    kafka.rd_kafka_destroy(producer)
