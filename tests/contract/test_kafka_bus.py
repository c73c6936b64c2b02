"""The Kafka bus against the contract of every bus, on a real broker."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from contract.bus_contract import BusContract
from voxthread.bus.kafka import KafkaBus
from voxthread.bus.kafka_settings import KafkaSettings

pytestmark = pytest.mark.contract


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
