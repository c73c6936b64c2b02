"""How to reach the brokers, and what is asked of librdkafka."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import KafkaError

from voxthread.bus.policies import RECORD_MAX_BYTES
from voxthread.core.failures import BusError

SecurityProtocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

MESSAGE_MAX_BYTES: Final = RECORD_MAX_BYTES + 64 * 1024  # a record and what Kafka wraps it in
FETCH_WAIT_MS: Final = 100
"""A broker answers a fetch as soon as there is a record. It is no longer because a partition that is newly read
waits for the fetch under way to end."""
ANSWER_PATIENCE_S: Final = 5
"""How long a question (metadata, an offset) may take."""

_IN_URL: Final = (
    "topic_prefix",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "tls_ca_file",
    "tls_cert_file",
    "tls_key_file",
)
_UNAUTHORIZED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
_UNREACHABLE: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
    }
)
_UNSETTLED: Final = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._NOENT,  # nobody leads: that is what it says of a topic all of whose brokers are away
    }
)
"""Brokers that elect a leader or lack a replica; over soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    servers: str
    """`host:port,host:port`"""
    topic_prefix: str = ""
    """Stands before the name of every topic, so that several installations share brokers."""
    security_protocol: SecurityProtocol = "plaintext"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    tls_ca_file: Path | None = None
    """PEM of who signed the brokers' certificates; None trusts what the system trusts."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    replication_factor: int | None = None
    """Of topics made here; None is 3, or as many as there are brokers."""
    append_timeout_ms: int = 30_000
    """How long an append waits for brokers that are away."""

    def with_url(self, url: str) -> "KafkaSettings":
        """These settings with what `kafka://host:port,host:port?name=value` says. Raises `BusError`."""
        parts = urlsplit(url)
        if parts.scheme != "kafka" or not parts.netloc or parts.path not in ("", "/"):
            raise BusError("bus.bad_url", "a Kafka bus is named kafka://host:port,host:port?name=value")
        given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "@" in parts.netloc or (unknown := sorted(given.keys() - set(_IN_URL))):
            what = "a login before @" if "@" in parts.netloc else ", ".join(unknown)
            raise BusError(
                "bus.bad_url",
                f"the bus URL may not hold {what}, only {', '.join(_IN_URL)}; a password belongs in the "
                "configuration, because every user of a machine sees its command lines",
            )
        for name, allowed in (("security_protocol", SecurityProtocol), ("sasl_mechanism", SaslMechanism)):
            if name in given and given[name] not in get_args(allowed):
                raise BusError("bus.bad_url", f"{name} is one of {', '.join(get_args(allowed))}")
        for name in given.keys() & {"tls_ca_file", "tls_cert_file", "tls_key_file"}:
            given[name] = Path(given[name])
        return replace(self, servers=parts.netloc, **given)

    def client(self) -> dict[str, Any]:
        """What every client needs; a broker that comes back is noticed within 0.2 s."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "client.id": "voxthread",
            "log_level": 0,  # what matters comes through the error callback
            "security.protocol": self.security_protocol,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 20,
            "retry.backoff.max.ms": 200,
            "socket.timeout.ms": 3_000,
            "socket.connection.setup.timeout.ms": 3_000,
            "socket.keepalive.enable": True,
            "topic.metadata.refresh.fast.interval.ms": 100,
        }
        if self.security_protocol.startswith("sasl"):
            settings["sasl.mechanism"] = self.sasl_mechanism
            settings["sasl.username"] = self.sasl_username or ""
            settings["sasl.password"] = self.sasl_password or ""
        for name, file in (
            ("ssl.ca.location", self.tls_ca_file),
            ("ssl.certificate.location", self.tls_cert_file),
            ("ssl.key.location", self.tls_key_file),
        ):
            if file is not None:
                settings[name] = str(file)
        return settings

    def producer(self) -> dict[str, Any]:
        """Idempotent, so that what is sent again after a lost answer is neither doubled nor out of order."""
        return self.client() | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": self.append_timeout_ms,
            "request.timeout.ms": 3_000,
            "message.max.bytes": MESSAGE_MAX_BYTES,
            "queue.buffering.max.kbytes": 64 * 1024,
        }

    def consumer(self) -> dict[str, Any]:
        """For partitions assigned by hand. The group has no members and stores nothing."""
        return self.client() | {
            "group.id": "voxthread",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "fetch.error.backoff.ms": 20,
            "queued.min.messages": 1_000,
            "queued.max.messages.kbytes": 16 * 1024,
        }


def bus_error(error: KafkaError) -> BusError:
    """What librdkafka reported, in the words of the bus."""
    code, said = error.code(), error.str()
    if code in _UNAUTHORIZED:
        return BusError("bus.unauthorized", f"Kafka refused: {said}")
    if code in _UNREACHABLE:
        return BusError("bus.unreachable", f"Kafka does not answer: {said}", retryable=True)
    if code == KafkaError.TOPIC_ALREADY_EXISTS:
        return BusError("bus.topic_exists", said)
    is_over_soon = code in _UNSETTLED or error.retriable()
    return BusError("bus.failed", f"Kafka: {error.name()}: {said}", retryable=is_over_soon)
