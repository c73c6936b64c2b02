"""Every private name of aiortc and aioice that Voxthread touches.

Both are pinned to a minor version; `tests/contract/test_aiortc_seams.py` fails when an upgrade moves one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import pylibsrtp
from aioice.ice import CandidatePair, Connection, get_host_addresses
from aiortc import RTCDtlsTransport, RTCIceGatherer, RTCPeerConnection

_COMPONENT = 1


def host_addresses(bound_to: str) -> list[str]:
    """Addresses to receive media at for a server whose HTTP is bound to `bound_to`, best reachable first.

    A loopback server offers 127.0.0.1 first, then the machine's own IPv4 addresses, because browsers may
    bind no socket on loopback; aioice by itself never offers loopback. A wildcard offers all addresses.
    """
    if bound_to in ("127.0.0.1", "localhost", "::1"):
        return ["127.0.0.1", *get_host_addresses(use_ipv4=True, use_ipv6=False)]
    if bound_to in ("0.0.0.0", "::", ""):
        return sorted(get_host_addresses(use_ipv4=True, use_ipv6=True), key=lambda address: ":" in address)
    return [bound_to]


async def gather_at(gatherer: RTCIceGatherer, addresses: Sequence[str]) -> None:
    """Gather host candidates at `addresses` only, where `gatherer.gather()` would take every interface.

    Raises `OSError` when none can be bound.
    """
    connection: Connection = gatherer._connection  # noqa: SLF001
    candidates = await connection.get_component_candidates(_COMPONENT, list(addresses))
    if not candidates:
        raise OSError(f"no UDP socket could be bound at {', '.join(addresses)}")
    connection._local_candidates = candidates  # noqa: SLF001
    connection._local_candidates_start = connection._local_candidates_end = True  # noqa: SLF001
    await gatherer.gather()


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
