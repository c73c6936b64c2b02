"""Which versions of the protocol a broker speaks; the client library knows but does not say."""

import socket
import ssl
import struct
from contextlib import ExitStack
from typing import Final

from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, KafkaSettings

API_VERSIONS: Final = 18
_REQUEST: Final = struct.pack(">hhih", API_VERSIONS, 0, 1, -1)  # version 0 is understood by all; no client id
_ANSWER_MAX_BYTES: Final = 64 * 1024


def api_versions(settings: KafkaSettings, host: str, port: int) -> dict[int, int]:
    """The highest version a broker speaks of each API, by its number.

    Brokers answer this before a login (KIP-43). Blocks. Raises `OSError`; `ValueError` when what answers is
    no Kafka broker.
    """
    with ExitStack() as opened:
        connection = opened.enter_context(socket.create_connection((host, port), ANSWER_PATIENCE_S))
        if settings.security_protocol.endswith("ssl"):
            context = ssl.create_default_context(cafile=settings.tls_ca_file)
            if settings.tls_cert_file is not None:
                context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
            connection = opened.enter_context(context.wrap_socket(connection, server_hostname=host))
        connection.sendall(struct.pack(">i", len(_REQUEST)) + _REQUEST)
        answer = opened.enter_context(connection.makefile("rb"))
        head = answer.read(4)
        length = int.from_bytes(head, "big")
        if len(head) < 4 or not 10 <= length <= _ANSWER_MAX_BYTES:
            raise ValueError("the answer is not that of a Kafka broker")
        return _read_answer(answer.read(length))


def _read_answer(answer: bytes) -> dict[int, int]:
    try:
        _, error, count = struct.unpack_from(">ihi", answer)
        entries = [struct.unpack_from(">hhh", answer, 10 + 6 * n) for n in range(count)]
    except struct.error as failure:
        raise ValueError("the answer of the broker is cut short") from failure
    if error:
        raise ValueError(f"the broker answers with error {error}")
    return {api: newest for api, _, newest in entries}
