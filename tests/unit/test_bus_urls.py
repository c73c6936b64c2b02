"""Which bus a URL names, and what a URL may not say."""

from pathlib import Path

import pytest

from voxthread.bus.kafka import KafkaBus
from voxthread.bus.open import kafka_settings, open_bus, sqlite_file
from voxthread.bus.sqlite import SqliteBus
from voxthread.config import BusConfig
from voxthread.core.failures import BusError

pytestmark = pytest.mark.unit

SECRET = "a-password"


@pytest.mark.anyio
async def test_each_url_names_its_bus(tmp_path: Path) -> None:
    options = BusConfig(partitions=3)
    async with open_bus("memory", options) as bus:
        assert bus.partitions == 3
    assert isinstance(open_bus(f"sqlite:{tmp_path}/log.db", options), SqliteBus)
    assert isinstance(open_bus("kafka://h:9092", options), KafkaBus)
    assert sqlite_file("sqlite:/var/lib/voxthread/log.db") == Path("/var/lib/voxthread/log.db")


def test_what_a_kafka_url_says_stands_above_the_options() -> None:
    options = BusConfig(
        topic_prefix="a.", sasl_password=SECRET, security_protocol="sasl_ssl", sasl_username="voxthread"
    )
    settings = kafka_settings("kafka://h1:9092,h2:9092?topic_prefix=b.&sasl_mechanism=PLAIN", options)
    client = settings.client()
    assert settings.servers == client["bootstrap.servers"] == "h1:9092,h2:9092"
    assert settings.topic_prefix == "b."
    assert (client["security.protocol"], client["sasl.mechanism"]) == ("sasl_ssl", "PLAIN")
    assert (client["sasl.username"], client["sasl.password"]) == ("voxthread", SECRET)
    assert SECRET not in repr(settings)


def test_a_plaintext_client_is_given_no_password() -> None:
    client = kafka_settings("kafka://h:9092", BusConfig(sasl_password=SECRET)).client()
    assert SECRET not in client.values()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory:",
        "sqlite",
        "sqlite:",
        "redis://h:1",
        "kafka:",
        "kafka://",
        "kafka://h:9092/topic",
        f"kafka://user:{SECRET}@h:9092",
        f"kafka://h:9092?sasl_password={SECRET}",
        "kafka://h:9092?nonsense=1",
        "kafka://h:9092?security_protocol=none",
        "kafka://h:9092?sasl_mechanism=GSSAPI",
    ],
)
def test_a_url_that_names_no_bus_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(BusError) as raised:
        open_bus(url, BusConfig())
    assert (raised.value.code, raised.value.retryable) == ("bus.bad_url", False)
    assert SECRET not in raised.value.detail
