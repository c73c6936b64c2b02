"""The topics of the log: made with the policies of the streams where they are missing."""

from collections.abc import Mapping
from concurrent.futures import Future
from time import monotonic, sleep
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic

from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, MESSAGE_MAX_BYTES, KafkaSettings, bus_error
from voxthread.bus.policies import COMPACTION_LAG_MS, MINUTE_MS, POLICIES, TOMBSTONE_MS, Policy
from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Stream

REPLICAS: Final = 3
_T = TypeVar("_T")
_CREATION_PATIENCE_S: Final = 15


def ensure_topics(settings: KafkaSettings, partitions: int) -> int:
    """Make the topics that are missing and return how many partitions the keyed streams have.

    `partitions` counts for topics made here. Blocks. Raises `BusError`.
    """
    admin = KafkaAdmin(settings)
    cluster = admin.metadata()
    names = {stream: settings.topic_prefix + stream for stream in Stream}
    missing = [stream for stream, name in names.items() if name not in cluster.topics]
    if missing:
        replicas = settings.replication_factor or min(REPLICAS, len(cluster.brokers))
        _create(admin, {stream: names[stream] for stream in missing}, partitions, replicas)
        cluster = _wait_for_leaders(admin, set(names.values()))
    return min(len(cluster.topics[names[s]].partitions) for s in Stream if s not in SINGLE_PARTITION)


class KafkaAdmin:
    """An admin client that says why it was refused; librdkafka tells that apart from the call that fails."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._refusal: KafkaError | None = None
        self.client = AdminClient(settings.client() | {"error_cb": self._take_error})

    def metadata(self) -> ClusterMetadata:
        try:
            return self.client.list_topics(timeout=ANSWER_PATIENCE_S)
        except KafkaException as error:
            raise self._why(error.args[0]) from error

    def answer(self, asked: "Future[_T]") -> _T:
        try:
            return asked.result(timeout=_CREATION_PATIENCE_S)
        except TimeoutError as error:
            raise BusError("bus.unreachable", "Kafka does not answer", retryable=True) from error
        except KafkaException as error:
            raise self._why(error.args[0]) from error

    def _why(self, error: KafkaError) -> BusError:
        self.client.poll(0)
        return bus_error(self._refusal or error)

    def _take_error(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refusal = error


def topic_config(policy: Policy, replicas: int) -> Mapping[str, str]:
    """A topic's settings. Kafka drops whole segments: one is a tenth of the age, a quarter of the size."""
    common = {
        "retention.ms": policy.age_ms,
        "retention.bytes": policy.partition_bytes,
        "segment.ms": max(MINUTE_MS, policy.age_ms // 10),
        "segment.bytes": policy.partition_bytes // 4,
        "max.message.bytes": MESSAGE_MAX_BYTES,
        "min.insync.replicas": 2 if replicas >= REPLICAS else 1,
    }
    compaction = {
        "min.compaction.lag.ms": COMPACTION_LAG_MS,
        "max.compaction.lag.ms": 10 * COMPACTION_LAG_MS,
        "delete.retention.ms": TOMBSTONE_MS,
    }
    return {
        "cleanup.policy": "compact,delete" if policy.compacted else "delete",
        **{name: str(value) for name, value in (common | (compaction if policy.compacted else {})).items()},
    }


def _create(admin: KafkaAdmin, names: Mapping[Stream, str], partitions: int, replicas: int) -> None:
    wanted = [
        NewTopic(
            name,
            num_partitions=1 if stream in SINGLE_PARTITION else partitions,
            replication_factor=replicas,
            config=dict(topic_config(POLICIES[stream], replicas)),
        )
        for stream, name in names.items()
    ]
    for name, made in admin.client.create_topics(wanted, request_timeout=ANSWER_PATIENCE_S).items():
        try:
            admin.answer(made)
        except BusError as error:
            if error.code != "bus.topic_exists":  # else another process was quicker
                raise BusError(
                    error.code, f"topic {name} cannot be made: {error.detail}", retryable=error.retryable
                ) from error


def _wait_for_leaders(admin: KafkaAdmin, names: set[str]) -> ClusterMetadata:
    until = monotonic() + _CREATION_PATIENCE_S
    while True:
        cluster = admin.metadata()
        made = [cluster.topics[name] for name in names if name in cluster.topics]
        if len(made) == len(names) and all(p.leader >= 0 for topic in made for p in topic.partitions.values()):
            return cluster
        if monotonic() > until:
            raise BusError("bus.unreachable", "topics just made have no leader yet", retryable=True)
        sleep(0.05)
