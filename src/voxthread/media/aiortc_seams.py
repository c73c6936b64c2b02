"""Every private name of aiortc and aioice that Voxthread touches.

Both are pinned to a minor version; `tests/contract/test_aiortc_seams.py` fails when an upgrade moves one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pylibsrtp
from aioice.ice import Connection, get_host_addresses
from aiortc import RTCDtlsTransport, RTCIceGatherer, RTCPeerConnection

from voxthread.media.rtp import MalformedPacketError, is_rtcp

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


class SrtpWire:
    """SRTP in and out of a connected DTLS transport, below aiortc and aioice.

    Datagrams with the version bits of RTP go to `on_rtp` and `on_rtcp`, decrypted; STUN and DTLS go on to
    aioice; `on_other` is called for those that come from the peer's address. Foreign or damaged packets are
    counted in `rejected`.
    """

    def __init__(
        self,
        dtls: RTCDtlsTransport,
        on_rtp: Callable[[bytes], None],
        on_rtcp: Callable[[bytes], None],
        on_other: Callable[[], None],
    ) -> None:
        self.rejected = 0
        self._dtls = dtls
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        self._on_other = on_other
        self._connection: Connection = dtls.transport._connection  # noqa: SLF001
        self._rx: pylibsrtp.Session = dtls._rx_srtp  # noqa: SLF001
        self._tx: pylibsrtp.Session = dtls._tx_srtp  # noqa: SLF001
        for protocol in self._connection._protocols:  # noqa: SLF001
            vars(protocol)["datagram_received"] = self._filter(protocol.datagram_received)

    def detach(self) -> None:
        """Give the sockets back to aioice; packets that arrive later are ignored."""
        for protocol in self._connection._protocols:  # noqa: SLF001
            vars(protocol).pop("datagram_received", None)

    def send_rtp(self, data: bytes) -> bool:
        return self._send(self._tx.protect, data)

    def send_rtcp(self, data: bytes) -> bool:
        return self._send(self._tx.protect_rtcp, data)

    def _send(self, protect: Callable[[bytes], bytes], data: bytes) -> bool:
        """Whether the datagram was handed to the socket; False without a nominated path."""
        pair = self._connection._nominated.get(_COMPONENT)  # noqa: SLF001
        if pair is None or pair.protocol.transport.is_closing():
            return False
        pair.protocol.transport.sendto(protect(data), pair.remote_addr)
        return True

    def _filter(self, pass_on: Callable[[bytes, Any], None]) -> Callable[[bytes, Any], None]:
        def datagram_received(data: bytes, address: Any) -> None:
            if data and 127 < data[0] < 192:
                self._receive(data)
                return
            pair = self._connection._nominated.get(_COMPONENT)  # noqa: SLF001
            if pair is not None and pair.remote_addr == address[:2]:
                self._on_other()
            pass_on(data, address)

        return datagram_received

    def _receive(self, data: bytes) -> None:
        try:
            if is_rtcp(data):
                self._on_rtcp(self._rx.unprotect_rtcp(data))
            else:
                self._on_rtp(self._rx.unprotect(data))
        except (pylibsrtp.Error, MalformedPacketError):
            self.rejected += 1
