"""Kafka brokers of this machine, found by the port they listen at, killed, and started as they were."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import anyio
from anyio.to_thread import run_sync
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from voxthread.bus.kafka_settings import KafkaSettings
from voxthread.chaos.failures import ChaosError
from voxthread.chaos.processes import Command, command_of, listening_at
from voxthread.wire.log import Stream

_ANSWER_S: Final = 5
_LOOK_S: Final = 0.1
_BACK_S: Final = 60


class LocalBrokers:
    """Those of one cluster. `log_file` takes what a broker that was started again has to say."""

    def __init__(self, settings: KafkaSettings, log_file: Path) -> None:
        self._settings = settings
        self._log_file = log_file
        self._killed: Command | None = None
        self._count = 0
        self._started: list[subprocess.Popen[bytes]] = []

    async def count(self) -> int:
        """Raises `ChaosError` when none answers."""
        self._count = self._count or len(await self._addresses())
        return self._count

    async def kill_leader(self, partition: int) -> int:
        """Raises `ChaosError`."""
        pid = await run_sync(self._leader_pid, partition)
        self._killed = await run_sync(command_of, pid)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def restore(self) -> None:
        if self._killed is not None:
            self._started.append(await run_sync(self._start, self._killed))
            self._killed = None
        with anyio.move_on_after(_BACK_S):
            while True:
                try:
                    if len(await self._addresses()) >= self._count:
                        return
                except ChaosError:
                    await anyio.sleep(_LOOK_S)
        raise ChaosError("chaos.brokers_away", f"the brokers do not answer {_BACK_S} s after their start")

    def _admin(self) -> AdminClient:
        return AdminClient(self._settings.client())

    async def _addresses(self) -> list[tuple[str, int]]:
        def ask() -> list[tuple[str, int]]:
            brokers = self._admin().list_topics(timeout=_ANSWER_S).brokers.values()
            return [(str(broker.host), broker.port) for broker in brokers]

        try:
            return await run_sync(ask)
        except KafkaException as error:
            raise ChaosError("chaos.brokers_away", f"the brokers do not answer: {error}") from None

    def _leader_pid(self, partition: int) -> int:
        topic = f"{self._settings.topic_prefix}{Stream.OUT}"
        try:
            told = self._admin().list_topics(topic, timeout=_ANSWER_S)
            broker = told.brokers[told.topics[topic].partitions[partition].leader]
        except (KafkaException, KeyError) as error:
            raise ChaosError("chaos.brokers_away", f"nobody leads partition {partition}: {error}") from None
        pid = listening_at(str(broker.host), broker.port)
        if pid is None:
            raise ChaosError(
                "chaos.broker_elsewhere",
                f"{broker.host}:{broker.port} is no process of yours on this machine, so it cannot be struck",
            )
        return pid

    def _start(self, command: Command) -> "subprocess.Popen[bytes]":
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def with_own_topics(url: str, name: str) -> str:
    """The same brokers with topics that are nobody else's, unless the URL has a prefix already."""
    if "topic_prefix" in dict(parse_qsl(urlsplit(url).query)):
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}topic_prefix={name}."


@contextmanager
def topics_removed(settings: KafkaSettings) -> Iterator[None]:
    """Afterwards take away the topics that were made."""
    try:
        yield
    finally:
        topics = [f"{settings.topic_prefix}{stream}" for stream in Stream]
        for done in AdminClient(settings.client()).delete_topics(topics, operation_timeout=10).values():
            try:
                done.result(timeout=15)
            except KafkaException:
                continue  # what was never made cannot be removed, and brokers may be gone
