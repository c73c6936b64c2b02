"""Which bus a URL names."""

from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from voxthread.bus.memory import MemoryBus
from voxthread.bus.sqlite import SqliteBus
from voxthread.core.failures import BusError
from voxthread.wire.log import Bus

if TYPE_CHECKING:  # else every command would load librdkafka
    from voxthread.bus.kafka_settings import KafkaSettings, SaslMechanism, SecurityProtocol


class Secret(Protocol):
    def get_secret_value(self) -> str: ...


class BusOptions(Protocol):
    """The `[bus]` section of the configuration, explained there."""

    @property
    def partitions(self) -> int: ...
    @property
    def topic_prefix(self) -> str: ...
    @property
    def security_protocol(self) -> "SecurityProtocol": ...
    @property
    def sasl_mechanism(self) -> "SaslMechanism": ...
    @property
    def sasl_username(self) -> str | None: ...
    @property
    def sasl_password(self) -> Secret | None: ...
    @property
    def tls_ca_file(self) -> Path | None: ...
    @property
    def tls_cert_file(self) -> Path | None: ...
    @property
    def tls_key_file(self) -> Path | None: ...
    @property
    def replication_factor(self) -> int | None: ...
    @property
    def append_timeout_ms(self) -> int: ...


def open_bus(url: str, options: BusOptions) -> AbstractAsyncContextManager[Bus]:
    """The bus named `memory`, `sqlite:FILE` or `kafka://host:port,host:port?name=value`.

    Raises `BusError` `bus.bad_url`; entering it raises what the adapter's `__aenter__` says.
    """
    if url == "memory":
        return nullcontext(MemoryBus(options.partitions))
    if (file := sqlite_file(url)) is not None:
        return SqliteBus(file, options.partitions)
    from voxthread.bus.kafka import KafkaBus

    return KafkaBus(kafka_settings(url, options), options.partitions)


def sqlite_file(url: str) -> Path | None:
    """The file of `sqlite:FILE`, None for another kind of URL."""
    scheme, _, file = url.partition(":")
    return Path(file).expanduser() if scheme == "sqlite" and file else None


def kafka_settings(url: str, options: BusOptions) -> "KafkaSettings":
    """What the URL and the options say together; the URL wins. Raises `BusError` `bus.bad_url`."""
    if not url.startswith("kafka:"):
        raise BusError("bus.bad_url", "the bus is named memory, sqlite:FILE or kafka://host:port,host:port")
    from voxthread.bus.kafka_settings import KafkaSettings

    password = options.sasl_password
    return KafkaSettings(
        servers="",
        topic_prefix=options.topic_prefix,
        security_protocol=options.security_protocol,
        sasl_mechanism=options.sasl_mechanism,
        sasl_username=options.sasl_username,
        sasl_password=password.get_secret_value() if password is not None else None,
        tls_ca_file=options.tls_ca_file,
        tls_cert_file=options.tls_cert_file,
        tls_key_file=options.tls_key_file,
        replication_factor=options.replication_factor,
        append_timeout_ms=options.append_timeout_ms,
    ).with_url(url)
