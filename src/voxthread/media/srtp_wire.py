"""SRTP in and out of a connected DTLS transport, below aiortc and aioice."""

from collections.abc import Callable
from typing import Any, Final

import pylibsrtp
from aiortc import RTCDtlsTransport

from voxthread.media.aiortc_seams import DatagramHook, nominated_pair, srtp_sessions
from voxthread.media.datagrams import Allowance, Kind, kind_of
from voxthread.media.rtp import MalformedPacketError
from voxthread.observability.clock import now_us

_MAX_KNOWN: Final = 64
"""Sources of a peer: one of RTP and one of RTCP for each address it moves to and each track it begins anew.
libsrtp keeps state for each and looks through all of them, so with more the peer is up to no good."""

_PEER_PER_S: Final = 200
"""Four times the packets of a call: frames may be shorter, and a peer may catch up."""

_PEER_BURST: Final = 400
"""What has piled up in 8 s of a stall."""

_FLOOD_PACKETS: Final = 2_000
"""So many beyond that are no mistake."""


class SrtpWire:
    """RTP and RTCP go to `on_rtp` and `on_rtcp`, decrypted; STUN and DTLS go on to aioice, and `on_other` is
    called for those that come from the peer's address. Damaged packets are counted in `rejected`.

    Anybody can send to the port: what comes from elsewhere, or is of no source that has proven itself, is
    looked at up to an `Allowance` and counted in `ignored` beyond it. So is what the peer itself sends, by an
    allowance of its own.
    """

    def __init__(
        self,
        dtls: RTCDtlsTransport,
        on_rtp: Callable[[bytes], None],
        on_rtcp: Callable[[bytes], None],
        on_other: Callable[[], object],
    ) -> None:
        self.rejected = 0
        self.ignored = 0
        self._dtls = dtls
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        self._on_other = on_other
        self._strangers = Allowance()
        self._peer = Allowance(_PEER_PER_S, _PEER_BURST)
        self._peer_other = Allowance(_PEER_PER_S, _PEER_BURST)
        """Apart, since an address can be forged."""
        self._flood = 0
        self._known: set[tuple[Any, bytes]] = set()
        """Addresses and SSRCs, as they are on the wire, of packets that were authentic."""
        self._rx, self._tx = srtp_sessions(dtls)
        self._hook = DatagramHook(dtls, self._sort)

    @property
    def is_flooded(self) -> bool:
        """Whether the peer has sent far more than a call has."""
        return self._flood >= _FLOOD_PACKETS

    def detach(self) -> None:
        """Give the sockets back to aioice; packets that arrive later are ignored."""
        self._hook.remove()

    def send_rtp(self, data: bytes) -> bool:
        return self._send(self._tx.protect, data)

    def send_rtcp(self, data: bytes) -> bool:
        return self._send(self._tx.protect_rtcp, data)

    def _send(self, protect: Callable[[bytes], bytes], data: bytes) -> bool:
        """Whether the datagram was handed to the socket; False without a nominated path."""
        pair = nominated_pair(self._dtls)
        if pair is None or pair.protocol.transport.is_closing():
            return False
        pair.protocol.transport.sendto(protect(data), pair.remote_addr)
        return True

    def _sort(self, data: bytes, address: Any, pass_on: Callable[[bytes, Any], None]) -> None:
        match kind_of(data):
            case Kind.RTP:
                self._receive(data, (address, data[8:12]), self._rx.unprotect, self._on_rtp)
            case Kind.RTCP:
                self._receive(data, (address, data[4:8]), self._rx.unprotect_rtcp, self._on_rtcp)
            case Kind.OTHER:
                self.ignored += 1
            case _ if self._is_from_peer(address) and self._peer_other.takes(now_us()):
                self._on_other()
                pass_on(data, address)
            case _ if self._strangers.takes(now_us()):
                pass_on(data, address)
            case _:
                self.ignored += 1

    def _is_from_peer(self, address: Any) -> bool:
        pair = nominated_pair(self._dtls)
        return pair is not None and pair.remote_addr == address[:2]

    def _receive(
        self,
        data: bytes,
        source: tuple[Any, bytes],
        unprotect: Callable[[bytes], bytes],
        pass_on: Callable[[bytes], None],
    ) -> None:
        is_known = source in self._known
        allowance = self._peer if is_known else self._strangers
        if self.is_flooded or not allowance.takes(now_us()):
            self.ignored += 1
            self._flood += is_known
            return
        try:
            plain = unprotect(data)
            if not is_known:
                self._known.add(source)
                if len(self._known) > _MAX_KNOWN:
                    self._flood = _FLOOD_PACKETS
            pass_on(plain)
        except (pylibsrtp.Error, MalformedPacketError):
            self.rejected += 1
