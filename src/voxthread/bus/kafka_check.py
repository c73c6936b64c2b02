"""A look at brokers and topics: whether the log would work there, and what to mend."""

from collections.abc import Iterator, Sequence
from typing import Final

from confluent_kafka import TopicCollection, libversion
from confluent_kafka.admin import (
    AclOperation,
    ConfigResource,
    DescribeClusterResult,
    ResourceType,
    TopicDescription,
    TopicMetadata,
)

from voxthread.bus.findings import Finding, Severity
from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, KafkaSettings
from voxthread.bus.kafka_topics import REPLICAS, KafkaAdmin, topic_config
from voxthread.bus.kafka_versions import api_versions
from voxthread.bus.policies import POLICIES
from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Stream

NEEDED_APIS: Final = {0: ("Produce", 3), 1: ("Fetch", 4), 2: ("ListOffsets", 1), 22: ("InitProducerId", 0)}
"""By number: name and lowest version; together what Kafka 0.11 brought (headers, idempotent producers)."""

_NEEDED_OPERATIONS: Final = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)
_REACH_IT: Final = "see that it runs and that this machine reaches the address it advertises"
_MENDS: Final = {
    "bus.unreachable": _REACH_IT,
    "bus.unauthorized": "see sasl_username, sasl_password and the access lists of the brokers",
}
_EXACT: Final = ("cleanup.policy",)
_AT_LEAST: Final = ("retention.ms", "max.message.bytes")


def kafka_findings(settings: KafkaSettings) -> Sequence[Finding]:
    """Blocks for some seconds at most when brokers are away."""
    admin = KafkaAdmin(settings)
    try:
        return [*_broker_findings(admin, settings), *_topic_findings(admin, settings)]
    except BusError as error:
        return [Finding(Severity.ERROR, settings.servers, error.detail, _MENDS.get(error.code, ""))]


def _broker_findings(admin: KafkaAdmin, settings: KafkaSettings) -> Iterator[Finding]:
    cluster: DescribeClusterResult = admin.answer(
        admin.client.describe_cluster(include_authorized_operations=True, request_timeout=ANSWER_PATIENCE_S)
    )
    library = libversion()[0]
    for node in cluster.nodes:
        where = f"broker {node.id} ({node.host}:{node.port})"
        try:
            versions = api_versions(settings, node.host, node.port)
        except (OSError, ValueError) as error:
            yield Finding(Severity.ERROR, where, f"does not answer: {error}", _REACH_IT)
            continue
        lacking = [name for api, (name, least) in NEEDED_APIS.items() if versions.get(api, -1) < least]
        if lacking:
            yield Finding(
                Severity.ERROR, where, f"too old: lacks {', '.join(lacking)}", "run Kafka 0.11 or newer"
            )
        else:
            spoken = ", ".join(f"{name} {versions[api]}" for api, (name, _) in NEEDED_APIS.items())
            yield Finding(Severity.OK, where, f"speaks {spoken} (librdkafka {library})")
    if len(cluster.nodes) < REPLICAS:
        yield Finding(
            Severity.WARNING,
            "brokers",
            f"{len(cluster.nodes)}: while one is away the log is, and calls wait for it",
            "run three brokers; topics made then have three replicas",
        )


def _topic_findings(admin: KafkaAdmin, settings: KafkaSettings) -> Iterator[Finding]:
    there = admin.metadata().topics
    names = {stream: settings.topic_prefix + stream for stream in Stream}
    present = {stream: name for stream, name in names.items() if name in there}
    if missing := [name for name in names.values() if name not in there]:
        found = f"not there, or not for this user to see: {', '.join(missing)}"
        mend = "the first start makes them if it may create topics"
        yield Finding(Severity.WARNING, "topics", found, mend)
    if not present:
        return
    described = admin.client.describe_topics(
        TopicCollection([*present.values()]),
        include_authorized_operations=True,
        request_timeout=ANSWER_PATIENCE_S,
    )
    for stream, name in present.items():
        findings = [
            *_replica_findings(name, there[name]),
            *_permission_findings(admin.answer(described[name])),
            *_config_findings(admin, stream, name, there[name]),
        ]
        partitions = len(there[name].partitions)
        yield from findings or [Finding(Severity.OK, f"topic {name}", f"{partitions} partitions")]
    counts = {len(there[name].partitions) for stream, name in present.items() if stream not in SINGLE_PARTITION}
    if len(counts) > 1:
        found = f"have {sorted(counts)} partitions; the lowest number is used"
        mend = "give all of them the same number while no calls run"
        yield Finding(Severity.WARNING, "topics", found, mend)


def _replica_findings(name: str, topic: TopicMetadata) -> Iterator[Finding]:
    partitions = topic.partitions.values()
    if without_leader := [p.id for p in partitions if p.leader < 0]:
        found = f"partitions {without_leader} have no leader"
        yield Finding(Severity.ERROR, f"topic {name}", found, "bring its brokers back")
    if behind := [p.id for p in partitions if len(p.isrs) < len(p.replicas)]:
        found = f"partitions {behind} lack replicas in sync"
        yield Finding(Severity.WARNING, f"topic {name}", found, "see which broker is away or slow")


def _permission_findings(topic: TopicDescription) -> Iterator[Finding]:
    if not topic.authorized_operations:
        return  # a broker that does not tell
    lacking = [o.name for o in _NEEDED_OPERATIONS if o not in topic.authorized_operations]
    if lacking:
        yield Finding(
            Severity.ERROR,
            f"topic {topic.name}",
            f"this user may not {', '.join(lacking)}",
            f"kafka-acls --add --allow-principal User:NAME --topic {topic.name} "
            + " ".join(f"--operation {name.title()}" for name in lacking),
        )


def _config_findings(admin: KafkaAdmin, stream: Stream, name: str, topic: TopicMetadata) -> Iterator[Finding]:
    where = f"topic {name}"
    replicas = min(len(partition.replicas) for partition in topic.partitions.values())
    resource = ConfigResource(ResourceType.TOPIC, name)
    stored = admin.answer(
        admin.client.describe_configs([resource], request_timeout=ANSWER_PATIENCE_S)[resource]
    )
    actual = {setting: entry.value or "" for setting, entry in stored.items()}
    wanted = topic_config(POLICIES[stream], replicas)
    wrong = [n for n in _EXACT if set(actual[n].split(",")) != set(wanted[n].split(","))]
    wrong += [n for n in _AT_LEAST if 0 <= int(actual[n]) < int(wanted[n])]
    for setting in wrong:
        found = f"{setting} is {actual[setting]}, not {wanted[setting]}"
        yield Finding(Severity.WARNING, where, found, _alter(name, setting, wanted[setting]))
    in_sync = int(actual["min.insync.replicas"])
    mend = _alter(name, "min.insync.replicas", wanted["min.insync.replicas"])
    if in_sync > replicas:
        found = f"wants {in_sync} replicas in sync and has {replicas}"
        yield Finding(Severity.ERROR, where, found, mend)
    elif replicas >= REPLICAS and in_sync < int(wanted["min.insync.replicas"]):
        yield Finding(Severity.WARNING, where, "acknowledges what one broker alone has", mend)


def _alter(name: str, setting: str, value: str) -> str:
    config = f"{setting}=[{value}]" if "," in value else f"{setting}={value}"
    return f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config {config}"
