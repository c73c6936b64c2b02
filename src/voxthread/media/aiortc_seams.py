"""Every private name of aiortc and aioice that Voxthread touches.

Both are pinned to a minor version; `tests/contract/test_aiortc_seams.py` fails when an upgrade moves one.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import anyio
import pylibsrtp
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import ICE_COMPLETED, CandidatePair, Connection, StunProtocol
from aiortc import (
    RTCCertificate,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCSctpTransport,
)
from OpenSSL import SSL

from voxthread.media.datagrams import Allowance
from voxthread.observability.clock import now_us

_COMPONENT = 1
_CHECK_PACE_S: Final = 0.02
_RECEIVE_BUFFER_BYTES: Final = 256 * 1024
_DATA_BUFFER_BYTES: Final = 256 * 1024
_UNAUTHENTICATED: Final = frozenset({400, 401})

_CIPHERS: Final = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for signature in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")
)
"""Those of aiortc, and the same for a peer that is the server and has an RSA certificate."""


class SharedCertificate(RTCCertificate):
    """A certificate that many connections have, with one TLS context for them all."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            self._context.set_cipher_list(_CIPHERS.encode())
            # Sessions are not resumed; those of all connections would be kept.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


async def gather_at(gatherer: RTCIceGatherer, sockets: Sequence[socket.socket]) -> None:
    """Make host candidates of bound UDP sockets only, where `gatherer.gather()` would take every interface.

    The sockets are the gatherer's from then on.
    """
    connection: Connection = gatherer._connection  # noqa: SLF001
    _hurry(connection)
    _ignore_strangers(connection)
    with anyio.CancelScope(shield=True):  # or a socket would be nobody's
        candidates = [await _host_candidate(connection, bound) for bound in sockets]
    connection._local_candidates = candidates  # noqa: SLF001
    connection._local_candidates_start = connection._local_candidates_end = True  # noqa: SLF001
    await gatherer.gather()


class _Port(StunProtocol):
    """aioice's, but for datagrams that it would queue or fail at: anybody can send some."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._allowance = Allowance()

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        if not self.receiver._nominated and not self._allowance.takes(now_us()):  # noqa: SLF001
            return
        # STUN with an attribute that is cut off; a check that lacks its priority.
        with contextlib.suppress(struct.error, KeyError):
            super().datagram_received(data, addr)


async def _host_candidate(connection: Connection, bound: socket.socket) -> Candidate:
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    loop = asyncio.get_running_loop()
    _transport, protocol = await loop.create_datagram_endpoint(lambda: _Port(connection), sock=bound)
    address, port = bound.getsockname()[:2]
    protocol.local_candidate = Candidate(
        foundation=candidate_foundation("host", "udp", address),
        component=_COMPONENT,
        transport="udp",
        priority=candidate_priority(_COMPONENT, "host"),
        host=address,
        port=port,
        type="host",
    )
    connection._protocols.append(protocol)  # noqa: SLF001
    return protocol.local_candidate


def _hurry(connection: Connection) -> None:
    """Have `connection.connect` return as soon as a pair is nominated.

    aioice's own looks for that between two checks, up to 20 ms later (measured: 10 ms of every call's start).
    """

    async def connect() -> None:
        for candidate in connection._remote_candidates:  # noqa: SLF001
            connection._pair_remote_candidate(candidate)  # noqa: SLF001
        connection.sort_check_list()
        connection._unfreeze_initial()  # noqa: SLF001
        for check in connection._early_checks:  # noqa: SLF001
            connection.check_incoming(*check)
        connection._early_checks.clear()  # noqa: SLF001
        connection._early_checks_done = True  # noqa: SLF001
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pace)
            outcome = await connection._check_list_state.get()  # noqa: SLF001
            tasks.cancel_scope.cancel()
        for pair in connection._check_list:  # noqa: SLF001
            if pair.task:
                pair.task.cancel()
        if outcome != ICE_COMPLETED:
            raise ConnectionError("ICE negotiation failed")
        # aioice owns it: `close`, which every peer's end calls, cancels it and waits for it, and wants a task.
        consent = asyncio.create_task(connection.query_consent())  # noqa: TID251
        connection._query_consent_task = consent  # noqa: SLF001

    async def pace() -> None:
        goes_on = True
        while goes_on:
            goes_on = connection._check_periodic()  # noqa: SLF001
            await anyio.sleep(_CHECK_PACE_S)

    vars(connection)["connect"] = connect


def _ignore_strangers(connection: Connection) -> None:
    """Send nothing to whoever does not know the connection's password: its address may be another's."""
    respond_error = connection.respond_error

    def respond(request: Any, address: Any, protocol: Any, error: tuple[int, str]) -> None:
        if error[0] not in _UNAUTHENTICATED:
            respond_error(request, address, protocol, error)

    vars(connection)["respond_error"] = respond


def has_lost_consent(ice: RTCIceTransport) -> bool:
    """Whether the peer no longer answers checks (RFC 7675): known before the transport's state says so."""
    return bool(ice._connection._closing)  # noqa: SLF001


def limit_data(sctp: RTCSctpTransport, takes: Callable[[], bool]) -> None:
    """Look at no more of what comes over SCTP than `takes` allows, and keep no more than a small buffer of
    messages that are not complete; a peer that minds its window notices nothing of that."""
    handle = sctp._handle_data  # noqa: SLF001
    sctp._advertised_rwnd = _DATA_BUFFER_BYTES  # noqa: SLF001

    async def handle_some(data: bytes) -> None:
        if sctp._advertised_rwnd > 0 and takes():  # noqa: SLF001
            await handle(data)

    vars(sctp)["_handle_data"] = handle_some


def take_dtls_role(dtls: RTCDtlsTransport, *, server: bool) -> None:
    """Fix the DTLS role before the handshake; by itself aiortc derives it from the ICE role."""
    dtls._set_role("server" if server else "client")  # noqa: SLF001


def dtls_of(peer_connection: RTCPeerConnection) -> RTCDtlsTransport:
    """The DTLS transport of the first transceiver, which bundling makes the only one."""
    return peer_connection.getTransceivers()[0].sender.transport


def take_over_media(peer_connection: RTCPeerConnection) -> None:
    """Keep aiortc from sending and receiving RTP itself; call before the connection is negotiated.

    Its senders and receivers are then never started: no decoder threads, no tasks, no RTCP BYE.
    """

    async def nothing(_parameters: object) -> None:
        return

    for transceiver in peer_connection.getTransceivers():
        vars(transceiver.sender)["send"] = nothing
        vars(transceiver.receiver)["receive"] = nothing


def free_tls(dtls: RTCDtlsTransport) -> None:
    """Free what OpenSSL keeps for a transport that has stopped: 140 KB that were else kept until a full
    garbage collection, for the transport is part of cycles; 300 calls may end before there is one."""
    dtls._ssl = None  # noqa: SLF001


def srtp_sessions(dtls: RTCDtlsTransport) -> tuple[pylibsrtp.Session, pylibsrtp.Session]:
    """For what is received and for what is sent, of a transport that is connected."""
    return dtls._rx_srtp, dtls._tx_srtp  # noqa: SLF001


def nominated_pair(dtls: RTCDtlsTransport) -> CandidatePair | None:
    """Where media goes now; None while there is no path to the peer."""
    pair: CandidatePair | None = dtls.transport._connection._nominated.get(_COMPONENT)  # noqa: SLF001
    return pair


class Receive(Protocol):
    """What is done with a datagram; `pass_on` gives it to aioice."""

    def __call__(self, data: bytes, address: Any, pass_on: Callable[[bytes, Any], None]) -> None: ...


class DatagramHook:
    """Calls `receive` for each datagram of a transport."""

    def __init__(self, dtls: RTCDtlsTransport, receive: Receive) -> None:
        self._connection: Connection = dtls.transport._connection  # noqa: SLF001
        for protocol in self._connection._protocols:  # noqa: SLF001
            vars(protocol)["datagram_received"] = partial(receive, pass_on=protocol.datagram_received)

    def remove(self) -> None:
        for protocol in self._connection._protocols:  # noqa: SLF001
            vars(protocol).pop("datagram_received", None)
