"""What `check_bus` finds, on files and on a real broker whose topics somebody has changed."""

import os
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from voxthread.bus.check import check_bus
from voxthread.bus.findings import Severity
from voxthread.bus.kafka import KafkaBus
from voxthread.bus.kafka_settings import KafkaSettings
from voxthread.bus.sqlite import SqliteBus
from voxthread.config import BusConfig
from voxthread.wire.log import Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def test_a_sound_file_and_one_that_is_not_there_yet_are_usable_and_left_alone(tmp_path: Path) -> None:
    async with SqliteBus(tmp_path / "log.db", partitions=3):
        pass
    report = await check_bus(f"sqlite:{tmp_path}/log.db", BusConfig())
    assert report.is_usable
    assert "3 partitions" in report.findings[-1].found
    assert (await check_bus(f"sqlite:{tmp_path}/none/log.db", BusConfig())).is_usable
    assert sorted(os.listdir(tmp_path)) == ["log.db", "log.db-reserve", "log.db-wakes"]


async def test_a_file_that_is_no_log_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"RIFF" * 4_096)
    report = await check_bus(f"sqlite:{tmp_path}/log.db", BusConfig())
    assert not report.is_usable
    assert "move the file away" in report.findings[-1].mend


async def test_a_topic_that_forgets_too_early_is_named_with_what_mends_it(
    kafka_bootstrap: str,
) -> None:
    settings = KafkaSettings(servers=kafka_bootstrap, topic_prefix=f"check-{uuid4().hex[:8]}.")
    url = f"kafka://{settings.servers}?topic_prefix={settings.topic_prefix}"
    absent = await check_bus(url, BusConfig())
    assert absent.is_usable
    assert any("first start" in finding.mend for finding in absent.findings)

    async with KafkaBus(settings, partitions=2):
        pass
    topic = settings.topic_prefix + Stream.EVENTS
    made = [f for f in (await check_bus(url, BusConfig())).findings if topic in f.subject]
    assert [finding.severity for finding in made] == [Severity.OK]

    admin = AdminClient(settings.client())
    shortened = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[shortened])
    admin.incremental_alter_configs([resource])[resource].result(timeout=10)
    found = made[0]
    with anyio.fail_after(10):
        while found.severity is Severity.OK:  # brokers learn of it a moment later
            (found,) = [f for f in (await check_bus(url, BusConfig())).findings if topic in f.subject]
    assert found.severity is Severity.WARNING
    assert found.mend.startswith("kafka-configs --alter")
    assert "retention.ms=604800000" in found.mend


async def test_brokers_that_are_away_are_an_error(tmp_path: Path) -> None:
    report = await check_bus("kafka://127.0.0.1:1", BusConfig())
    assert not report.is_usable
    assert report.findings[0].mend
