"""Kafka behind TLS, a login and access lists, and what is told to who is not let in."""

import datetime
import ipaddress
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from contract.bus_contract import take
from kafka.brokers import Cluster
from voxthread.bus.check import check_bus
from voxthread.bus.findings import Severity
from voxthread.bus.kafka import KafkaBus
from voxthread.bus.kafka_settings import KafkaSettings
from voxthread.config import BusConfig
from voxthread.core.failures import BusError
from voxthread.observability.clock import now_ms
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(120)]

LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required username=admin password=secret"
    ' user_admin="secret" user_guest="guest";'
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key store for the broker and the certificate that clients trust."""
    directory = tmp_path_factory.mktemp("tls")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a broker of the tests")])
    now = datetime.datetime.fromtimestamp(now_ms() / 1000, datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted = directory / "trusted.pem"
    trusted.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    store = directory / "store.pem"
    store.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + trusted.read_bytes()
    )
    return store, trusted


@pytest.fixture(scope="module")
def admin(
    tmp_path_factory: pytest.TempPathFactory,
    start_kafka: Callable[..., AbstractContextManager[Cluster]],
    certificate: tuple[Path, Path],
) -> Iterator[KafkaSettings]:
    store, trusted = certificate
    ours = KafkaSettings(
        servers="",
        security_protocol="sasl_ssl",
        sasl_mechanism="PLAIN",
        sasl_username="admin",
        sasl_password="secret",
        tls_ca_file=trusted,
    )
    client = {
        name: value
        for name, value in ours.client().items()
        if name.split(".")[0] in ("security", "sasl", "ssl")
    }
    secured = {
        "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": LOGIN,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(trusted),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",
    }
    with start_kafka(1, tmp_path_factory.mktemp("kafka"), settings=secured, client=client) as cluster:
        yield replace(ours, servers=cluster.bootstrap)


def options(settings: KafkaSettings) -> BusConfig:
    return BusConfig(
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_username=settings.sasl_username,
        sasl_password=settings.sasl_password,
        tls_ca_file=settings.tls_ca_file,
    )


async def test_a_server_that_is_refused_ends_and_has_started_nothing(
    admin: KafkaSettings, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "VOXTHREAD_STATE_DIR": str(tmp_path),
        "VOXTHREAD_BUS__SECURITY_PROTOCOL": admin.security_protocol,
        "VOXTHREAD_BUS__SASL_MECHANISM": admin.sasl_mechanism,
        "VOXTHREAD_BUS__SASL_USERNAME": "admin",
        "VOXTHREAD_BUS__SASL_PASSWORD": "wrong",
        "VOXTHREAD_BUS__TLS_CA_FILE": str(admin.tls_ca_file),
    }
    command = [sys.executable, "-m", "voxthread", "serve", "--port", "0", "--bus", f"kafka://{admin.servers}"]
    ended = await anyio.run_process(command, env=environment, check=False)
    said = ended.stderr.decode()
    assert ended.returncode == 1, said
    (line,) = [line for line in said.splitlines() if not line.startswith("{")]
    assert "bus.unauthorized" in line
    assert "role.started" not in said


async def test_with_certificate_and_password_the_bus_works_and_is_found_sound(admin: KafkaSettings) -> None:
    async with KafkaBus(admin) as bus:
        position = await bus.append(Stream.IN, 0, Record("session_1", b"v"))
        assert (await take(bus, Stream.IN, 0, position, 1))[0].record.value == b"v"
    report = await check_bus(f"kafka://{admin.servers}", options(admin))
    assert report.is_usable
    assert {f.severity for f in report.findings if f.subject.startswith(("topic ", "broker "))} == {Severity.OK}


@pytest.mark.parametrize("wrong", ["password", "certificate"])
async def test_who_is_not_let_in_is_told_why(admin: KafkaSettings, wrong: str) -> None:
    refused = replace(admin, sasl_password="no") if wrong == "password" else replace(admin, tls_ca_file=None)
    with pytest.raises(BusError) as raised:
        async with KafkaBus(refused):
            pass
    assert (raised.value.code, raised.value.retryable) == ("bus.unauthorized", False)
    report = await check_bus(f"kafka://{admin.servers}", options(refused))
    assert not report.is_usable
    assert any(finding.mend for finding in report.findings if finding.severity is Severity.ERROR)


async def test_who_may_only_read_one_topic_is_told_so_when_looking_and_when_opening(
    admin: KafkaSettings,
) -> None:
    async with KafkaBus(admin):
        pass  # the topics are there
    guest = replace(admin, sasl_username="guest", sasl_password="guest")
    allow_reading(admin, guest)
    report = await check_bus(f"kafka://{admin.servers}", options(guest))
    assert not report.is_usable
    assert any("WRITE" in finding.found and "kafka-acls" in finding.mend for finding in report.findings)
    with pytest.raises(BusError) as raised:
        async with KafkaBus(guest):
            pass  # it sees one topic and may not make the others
    assert (raised.value.code, raised.value.retryable) == ("bus.unauthorized", False)


def allow_reading(admin: KafkaSettings, guest: KafkaSettings) -> None:
    allowed = [
        AclBinding(
            ResourceType.TOPIC,
            Stream.IN.value,
            ResourcePatternType.LITERAL,
            f"User:{guest.sasl_username}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in (AclOperation.DESCRIBE_CONFIGS, AclOperation.READ)
    ]
    client = AdminClient(admin.client())
    for made in client.create_acls(allowed).values():
        made.result(timeout=10)
    guests_client = AdminClient(guest.client())
    while Stream.IN not in guests_client.list_topics(timeout=10).topics:
        pass  # brokers learn of it a moment later
