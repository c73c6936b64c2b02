"""The topics of the log: made with the policies of the streams where they are missing."""

from collections.abc import Mapping
from time import monotonic, sleep
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic

from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, MESSAGE_MAX_BYTES, KafkaSettings, bus_error
from voxthread.bus.policies import COMPACTION_LAG_MS, MINUTE_MS, POLICIES, TOMBSTONE_MS, Policy
from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Stream

REPLICAS: Final = 3
_CREATION_PATIENCE_S: Final = 15


def ensure_topics(settings: KafkaSettings, partitions: int) -> int:
    """Make the topics that are missing and return how many partitions the keyed streams have.

    `partitions` counts for topics made here. Blocks. Raises `BusError`.
    """
    admin = AdminClient(settings.client())
    cluster = metadata(admin)
    names = {stream: settings.topic_prefix + stream for stream in Stream}
    missing = [stream for stream, name in names.items() if name not in cluster.topics]
    if missing:
        replicas = settings.replication_factor or min(REPLICAS, len(cluster.brokers))
        _create(admin, {stream: names[stream] for stream in missing}, partitions, replicas)
        cluster = _wait_for_leaders(admin, set(names.values()))
    return min(len(cluster.topics[names[s]].partitions) for s in Stream if s not in SINGLE_PARTITION)


def metadata(admin: AdminClient) -> ClusterMetadata:
    try:
        return admin.list_topics(timeout=ANSWER_PATIENCE_S)
    except KafkaException as error:
        raise bus_error(error.args[0]) from error


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


def _create(admin: AdminClient, names: Mapping[Stream, str], partitions: int, replicas: int) -> None:
    wanted = [
        NewTopic(
            name,
            num_partitions=1 if stream in SINGLE_PARTITION else partitions,
            replication_factor=replicas,
            config=dict(topic_config(POLICIES[stream], replicas)),
        )
        for stream, name in names.items()
    ]
    for name, made in admin.create_topics(wanted, request_timeout=_CREATION_PATIENCE_S).items():
        try:
            made.result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # another process was quicker
            failure = bus_error(error.args[0])
            raise BusError(
                failure.code,
                f"topic {name} is missing and cannot be made: {failure.detail}",
                retryable=failure.retryable,
            ) from error


def _wait_for_leaders(admin: AdminClient, names: set[str]) -> ClusterMetadata:
    until = monotonic() + _CREATION_PATIENCE_S
    while True:
        cluster = metadata(admin)
        made = [cluster.topics[name] for name in names if name in cluster.topics]
        if len(made) == len(names) and all(p.leader >= 0 for topic in made for p in topic.partitions.values()):
            return cluster
        if monotonic() > until:
            raise BusError("bus.unreachable", "topics just made have no leader yet", retryable=True)
        sleep(0.05)
