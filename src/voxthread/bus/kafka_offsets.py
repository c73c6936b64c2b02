"""Where partitions of Kafka begin and end, asked beside all reading.

A broker answers one connection's requests in their order, so a question on a consumer's connection waits
for the fetch that waits for records: measured 40 to 110 ms each, and a takeover asks a dozen. An admin client
has a connection of its own (3 ms).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from anyio.to_thread import run_sync
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, KafkaSettings, bus_error
from voxthread.core.failures import BusError

_LOOK_S: Final = 1.0


class KafkaOffsets:
    def __init__(self, settings: KafkaSettings, on_error: Callable[[KafkaError], None]) -> None:
        self._client = AdminClient(settings.client() | {"error_cb": on_error})

    async def oldest(self, topic: str, partition: int) -> int:
        """Raises `BusError`."""
        return await self._ask(TopicPartition(topic, partition), OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def head(self, topic: str, partition: int) -> int:
        """Raises `BusError`."""
        return await self._ask(TopicPartition(topic, partition), OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def _ask(self, place: TopicPartition, spec: OffsetSpec) -> int:
        asked = self._client.list_offsets({place: spec}, request_timeout=ANSWER_PATIENCE_S)
        try:
            answer = await asyncio.wait_for(asyncio.wrap_future(asked[place]), ANSWER_PATIENCE_S)
        except KafkaException as error:
            failure = bus_error(error.args[0])
            if failure.retryable:  # it asks whom it knew to lead, until it is told to look again
                await run_sync(self._look_again, place.topic)
            raise failure from error
        except TimeoutError as error:
            raise BusError("bus.unreachable", "Kafka does not answer", retryable=True) from error
        return int(answer.offset)

    def _look_again(self, topic: str) -> None:
        with suppress(KafkaException):
            self._client.list_topics(topic, timeout=_LOOK_S)
