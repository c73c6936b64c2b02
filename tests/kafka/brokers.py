"""Real Apache Kafka brokers (KRaft, no ZooKeeper) for tests, benchmarks and a look by hand.

`python tests/kafka/brokers.py 3` starts three, prints their address and stops them when its input ends.
Their jars come from Maven Central, at the versions of `pom.xml`, once, into `.tools/kafka`.
"""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import MappingProxyType
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parents[2] / ".tools" / "kafka"
OLDEST_JAVA = 17
PATIENCE_S = 60
NONE: Mapping[str, str] = MappingProxyType({})

_JVM = ("-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_GUARD = '"$@" </dev/null >&2 & echo $!; trap "kill -9 $!; exit" TERM; read -r _; kill -9 $!; wait'
"""A shell that kills the broker as soon as the process that started it is gone, however that ended."""


class KafkaUnavailableError(Exception):
    """This machine cannot run a broker; the message says what it lacks."""


def jars() -> Path:
    """The directory of Kafka's jars, resolved by Maven the first time."""
    if missing := [tool for tool in ("java", "mvn") if shutil.which(tool) is None]:
        raise KafkaUnavailableError(f"not installed: {', '.join(missing)} (default-jre-headless, maven)")
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    major = re.search(r'version "(\d+)', told)
    if major is None or int(major[1]) < OLDEST_JAVA:
        raise KafkaUnavailableError(f"Kafka needs Java {OLDEST_JAVA}, not {told.splitlines()[0]}")
    directory = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if not directory.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
            goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}/jars")
            resolved = subprocess.run(
                ["mvn", "-q", "-B", "-f", POM, *goal], capture_output=True, text=True, check=False
            )
            if resolved.returncode:
                reason = next((line for line in resolved.stdout.splitlines() if "ERROR" in line), "")
                raise KafkaUnavailableError(f"Maven cannot resolve Kafka: {reason}")
            try:
                Path(fresh, "jars").rename(directory)
            except OSError:
                if not directory.exists():  # else another run was quicker
                    raise
    return directory


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Broker:
    """One broker, also a controller. Its storage and its port outlive a kill, so it can start again."""

    def __init__(self, node_id: int, port: int, directory: Path, settings: dict[str, str]) -> None:
        self.node_id = node_id
        self.address = f"127.0.0.1:{port}"
        self.pid = 0
        self._directory = directory
        self._settings = directory / "server.properties"
        self._guard: subprocess.Popen[str] | None = None
        directory.mkdir(parents=True)
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def format(self, cluster_id: str) -> None:
        formatted = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._settings)),
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise RuntimeError(f"the broker cannot format its storage: {formatted.stdout}{formatted.stderr}")

    def start(self) -> None:
        """Return as soon as it runs; `wait_until_ready` says when it answers."""
        with (self._directory / "log.txt").open("a") as log:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", *self._java("kafka.Kafka", str(self._settings))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL it and return when it is gone."""
        if self._guard is not None:
            self._guard.communicate()  # the end of its input is the guard's signal
            self._guard = None

    def last_words(self) -> str:
        return "".join((self._directory / "log.txt").read_text().splitlines(keepends=True)[-20:])

    def _java(self, *arguments: str) -> list[str]:
        return ["java", *_JVM, "-cp", f"{jars()}/*", *arguments]


class Cluster:
    """Brokers that know each other."""

    def __init__(self, brokers: list[Broker], client: Mapping[str, str]) -> None:
        self.brokers = brokers
        self._client = client

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    def wait_until_ready(self) -> None:
        """Return when every broker of the cluster is known to it."""
        admin = self._admin()
        until = monotonic() + PATIENCE_S
        while monotonic() < until:
            try:
                if len(admin.list_topics(timeout=1).brokers) == len(self.brokers):
                    return
            except KafkaException:
                sleep(0.1)
        raise RuntimeError("Kafka does not answer: " + "".join(b.last_words() for b in self.brokers))

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, **self._client})

    def leader(self, topic: str, partition: int) -> Broker:
        admin = self._admin()
        leader = admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return next(broker for broker in self.brokers if broker.node_id == leader)


@contextmanager
def running(
    count: int, directory: Path, settings: Mapping[str, str] = NONE, client: Mapping[str, str] = NONE
) -> Iterator[Cluster]:
    """`count` brokers that answer, on free ports, with their storage below `directory`.

    `settings` are for the brokers, beside or instead of ours; `client` is what a client then needs.
    Raises `KafkaUnavailableError`.
    """
    jars()
    ports = free_ports(2 * count)
    voters = ",".join(f"{n + 1}@127.0.0.1:{ports[2 * n + 1]}" for n in range(count))
    brokers = []
    for n in range(count):
        home = directory / f"broker-{n + 1}"
        own = _settings(n + 1, ports[2 * n], ports[2 * n + 1], voters, count, home / "data")
        brokers.append(Broker(n + 1, ports[2 * n], home, own | dict(settings)))
    cluster = Cluster(brokers, client)
    cluster_id = uuid4().hex[:22]
    try:
        for broker in brokers:
            broker.format(cluster_id)
            broker.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        for broker in brokers:
            broker.kill()


def _settings(
    node_id: int, port: int, controller_port: int, voters: str, count: int, data: Path
) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": voters,
        "listeners": f"CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{port}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(count),
        "offsets.topic.replication.factor": str(count),
        # A broker that is dead gives its partitions away after 2 s instead of 9.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "num.network.threads": "2",
        "num.io.threads": "2",
    }


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with (
        tempfile.TemporaryDirectory(prefix="voxthread-kafka-") as scratch,
        running(wanted, Path(scratch)) as cluster,
    ):
        sys.stdout.write(cluster.bootstrap + "\n")
        sys.stdout.flush()
        sys.stdin.read()
