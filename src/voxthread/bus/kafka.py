"""The log on Kafka, for several machines; any broker of its protocol will do.

librdkafka's own threads talk to the brokers; of ours one takes reports and one takes records to the loop.
Decided and measured in docs/adr/0008-kafka-client.md.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.to_thread import run_sync
from confluent_kafka import KafkaError

from voxthread.bus.kafka_consumer import Following, KafkaConsumer, Place
from voxthread.bus.kafka_offsets import KafkaOffsets
from voxthread.bus.kafka_producer import KafkaProducer
from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, KafkaSettings
from voxthread.bus.kafka_topics import ensure_topics
from voxthread.bus.policies import POLICIES, refuse_oversized
from voxthread.core.failures import BusError
from voxthread.observability.logs import get_logger
from voxthread.wire.log import SINGLE_PARTITION, Record, StoredRecord, Stream

_ASK_AGAIN_S: Final = 0.05
_TELL_AGAIN_S: Final = 10

log = get_logger(__name__)


class KafkaBus:
    """A `Bus` on the brokers of `settings`, usable within `async with`; not for use from other threads.

    `partitions` counts for topics that are not there yet; afterwards the topics say how many there are.
    """

    def __init__(self, settings: KafkaSettings, partitions: int = 8) -> None:
        self._settings = settings
        self._partitions = partitions
        self._opened = ExitStack()
        self._producer: KafkaProducer
        self._offsets: KafkaOffsets
        self._consumers: list[KafkaConsumer] = []
        self._told_at: dict[int, float] = {}

    async def __aenter__(self) -> Self:
        """Raises `BusError`: `bus.unreachable` (retryable), `bus.unauthorized`."""
        self._partitions = await run_sync(
            ensure_topics, self._settings, self._partitions, abandon_on_cancel=True
        )
        self._offsets = KafkaOffsets(self._settings, self._tell_error)
        with ExitStack() as opened:
            self._producer = KafkaProducer(self._settings, self._tell_error)
            opened.callback(self._stop_consumers)
            self._start_consumer()
            self._producer.start()
            opened.callback(self._producer.stop)
            self._opened = opened.pop_all()
        try:
            await self.head(Stream.CLAIMS, 0)  # its connection is then there when a takeover asks
        except BaseException:  # cancelled, too: who does not enter does not leave
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await run_sync(self._opened.close)

    @property
    def partitions(self) -> int:
        return self._partitions

    @property
    def closing(self) -> str | None:
        return None

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        """Returns when all replicas in sync have the record. While brokers are away it waits for them, up to
        `append_timeout_ms`; then it raises `bus.unreachable`, retryable. Cancelling it does not withdraw the
        record.
        """
        topic, _ = self._place(stream, partition)
        refuse_oversized(record)
        await checkpoint_if_cancelled()
        is_tombstone = POLICIES[stream].compacted and not record.value
        return await self._producer.append(topic, partition, record, is_tombstone=is_tombstone)

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        """Waits while brokers are away and goes on when they are back. Raises `BusError`, also
        `bus.position_expired` and `bus.position_lost`.
        """
        place = self._place(stream, partition)
        with self._following(place, from_position) as (consumer, following):
            while True:
                yield await following.next_record()
                consumer.drained(following)

    async def oldest(self, stream: Stream, partition: int) -> int:
        return await self._ask(self._offsets.oldest, self._place(stream, partition))

    async def head(self, stream: Stream, partition: int) -> int:
        return await self._ask(self._offsets.head, self._place(stream, partition))

    async def _ask(self, question: Callable[[str, int], Awaitable[int]], place: Place) -> int:
        until = monotonic() + ANSWER_PATIENCE_S
        while True:
            try:
                return await question(*place)
            except BusError as error:
                if not error.retryable or monotonic() > until:
                    raise
            await anyio.sleep(_ASK_AGAIN_S)

    def _place(self, stream: Stream, partition: int) -> Place:
        last = 0 if stream in SINGLE_PARTITION else self._partitions - 1
        if not 0 <= partition <= last:
            raise BusError("bus.no_such_partition", f"{stream} has partitions 0 to {last}, not {partition}")
        return self._settings.topic_prefix + stream, partition

    @contextmanager
    def _following(self, place: Place, from_position: int) -> Iterator[tuple[KafkaConsumer, Following]]:
        """Readers share one consumer; who reads what another one reads already gets a second for that while."""
        consumer = next((each for each in self._consumers if each.is_free(place)), None)
        if consumer is None:
            consumer = self._start_consumer()
        following = consumer.follow(place, from_position)
        try:
            yield consumer, following
        finally:
            consumer.leave(following)
            if consumer.is_idle and consumer is not self._consumers[0]:
                self._consumers.remove(consumer)
                consumer.stop()

    def _start_consumer(self) -> KafkaConsumer:
        consumer = KafkaConsumer(self._settings, self._tell_error)
        consumer.start()
        self._consumers.append(consumer)
        return consumer

    def _stop_consumers(self) -> None:
        for consumer in self._consumers:
            consumer.stop()
        for consumer in self._consumers:
            consumer.join()

    def _tell_error(self, error: KafkaError) -> None:
        """In a thread. A broker that is away is told once in a while, not at each attempt to reach it."""
        now = monotonic()
        if now - self._told_at.get(error.code(), -_TELL_AGAIN_S) >= _TELL_AGAIN_S:
            self._told_at[error.code()] = now
            log.warning("bus.kafka_error", error=error.name(), detail=error.str())
