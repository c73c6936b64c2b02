"""One peer: ICE, DTLS and SCTP by aiortc, SDP and RTP by ourselves.

    async with open_peer(offer, settings) as peer:
        ... peer.answer goes to the caller ...
        link = await peer.connect(on_packet)
        reason = await peer.lost()

The transports are used as aiortc's ORTC layer offers them, without its `RTCPeerConnection`: no senders,
receivers, decoder threads or tasks that nobody owns.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Final

import anyio
from aiortc import (
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)

from voxthread.core.failures import MediaError
from voxthread.media.aiortc_seams import free_tls, gather_at, has_lost_consent, limit_data, take_dtls_role
from voxthread.media.answer import LocalTransport, answer_direction, answer_nack, answer_setup, build_answer
from voxthread.media.certificate import current_certificate
from voxthread.media.datagrams import Allowance
from voxthread.media.fragment import Fragment, may_probe
from voxthread.media.link import Negotiated, RtpLink
from voxthread.media.nat import advertised
from voxthread.media.ports import bind_sockets
from voxthread.media.rtp import RtpPacket
from voxthread.media.sdp import MAX_CANDIDATES, Offer
from voxthread.media.sdp_text import Candidate, Fingerprint
from voxthread.media.settings import MediaSettings
from voxthread.observability.clock import now_us
from voxthread.observability.metrics import FAILURES

MAX_CHANNELS: Final = 16
"""Data channels a caller may open; nothing is done with them."""

_CLOSE_TIMEOUT_S = 2


@contextlib.asynccontextmanager
async def open_peer(offer: Offer, settings: MediaSettings) -> AsyncIterator["Peer"]:
    """Bind sockets and prepare the answer; everything is closed on the way out.

    Raises `MediaError` `media.no_port` or `media.no_socket`.
    """
    sockets = bind_sockets(settings.addresses, settings.udp_ports)
    gatherer = RTCIceGatherer(iceServers=[])
    ice = RTCIceTransport(gatherer)
    dtls = RTCDtlsTransport(ice, [current_certificate()])
    take_dtls_role(dtls, server=answer_setup(offer) == "passive")
    sctp = RTCSctpTransport(dtls) if offer.data else None
    try:
        await gather_at(gatherer, sockets)
        peer = Peer(offer, settings, gatherer, ice, dtls, sctp)
        await peer.add_candidates(offer.candidates)
        yield peer
    finally:
        # Shielded: a cancelled session must still free its sockets and tell its peer goodbye.
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(free_tls, dtls)
                stack.push_async_callback(ice.stop)
                stack.push_async_callback(dtls.stop)
                if sctp is not None:
                    stack.push_async_callback(sctp.stop)


class Peer:
    """The transports of one caller, and the answer to its offer."""

    def __init__(
        self,
        offer: Offer,
        settings: MediaSettings,
        gatherer: RTCIceGatherer,
        ice: RTCIceTransport,
        dtls: RTCDtlsTransport,
        sctp: RTCSctpTransport | None,
    ) -> None:
        self.receives_audio = answer_direction(offer, strict=settings.strict_rfc9725) == "sendrecv"
        self._negotiated = Negotiated(
            nack=answer_nack(offer, strict=settings.strict_rfc9725), level_id=offer.audio.level_id
        )
        self.is_connected = False
        """Set once it is, for good."""
        self._offer = offer
        self._may_probe = settings.allow_remote_candidates
        self._probe_networks = settings.probe_networks
        self._ice = ice
        self._dtls = dtls
        self._sctp = sctp
        self._channels = 0
        self._probed_candidates = 0
        self._ssrc = secrets.randbits(32)
        self._lost = anyio.Event()
        local = gatherer.getLocalParameters()
        self.answer = build_answer(
            offer,
            LocalTransport(
                ufrag=local.usernameFragment or "",
                password=local.password or "",
                fingerprints=[
                    Fingerprint(each.algorithm, each.value)
                    for each in dtls.getLocalParameters().fingerprints
                    if each.algorithm == "sha-256"
                ],
                addresses=advertised(
                    [(each.ip, each.port) for each in gatherer.getLocalCandidates()],
                    settings.nat_1_1,
                    keeps_private=settings.nat_keeps_private,
                ),
                ssrc=self._ssrc,
            ),
            strict=settings.strict_rfc9725,
        )

    async def connect(self, on_packet: Callable[[RtpPacket, int], None]) -> RtpLink:
        """Wait for the caller's checks and handshake; `on_packet` as in `RtpLink`.

        Waits for ever on a caller who never comes. Raises `MediaError`.
        """
        try:
            return await self._connect(on_packet)
        except MediaError as error:
            FAILURES.labels(stage=error.stage, code=error.code).inc()
            raise
        except Exception as error:  # aiortc documents none and raises many kinds
            raise MediaError("media.peer_failed", f"The caller's connection failed: {error!r}.") from error

    async def _connect(self, on_packet: Callable[[RtpPacket, int], None]) -> RtpLink:
        await self._ice.start(
            RTCIceParameters(
                usernameFragment=self._offer.ufrag, password=self._offer.password, iceLite=self._offer.ice_lite
            )
        )
        if self._ice.state != "completed":
            raise MediaError("media.ice_failed", "No network path to the caller was found.", retryable=True)
        await self._dtls.start(
            RTCDtlsParameters(
                fingerprints=[
                    RTCDtlsFingerprint(each.algorithm, each.value) for each in self._offer.fingerprints
                ]
            )
        )
        if self._dtls.state != "connected":
            raise MediaError("media.dtls_failed", "The DTLS handshake with the caller failed.", retryable=True)
        self.is_connected = True
        self._dtls.on("statechange", self._notice_loss)
        self._notice_loss()
        link = RtpLink(
            self._dtls,
            payload_type=self._offer.audio.opus_payload_type,
            on_packet=on_packet,
            ssrc=self._ssrc,
            negotiated=self._negotiated,
        )
        if self._sctp is not None and self._offer.data is not None:
            allowance = Allowance()
            limit_data(self._sctp, lambda: allowance.takes(now_us()))
            self._sctp.on("datachannel", self._count_channel)
            await self._sctp.start(
                RTCSctpCapabilities(maxMessageSize=self._offer.data.max_message_bytes),
                self._offer.data.sctp_port,
            )
        return link

    async def lost(self) -> str:
        """Return why, once a connected peer has hung up or can no longer be reached."""
        await self._lost.wait()
        if self._channels > MAX_CHANNELS:
            return "too_many_channels"
        return "unreachable" if has_lost_consent(self._ice) else "closed_by_peer"

    def is_restart(self, fragment: Fragment) -> bool:
        return fragment.restarts(self._offer.ufrag, self._offer.password)

    async def add_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Candidates of the tagged section. Never the end of them: aioice would give up before the
        caller's own checks, from which its address is learnt, have come."""
        if not self._may_probe:
            return
        for each in candidates:
            if self._probed_candidates < MAX_CANDIDATES and may_probe(each, self._probe_networks):
                self._probed_candidates += 1
                await self._ice.addRemoteCandidate(
                    RTCIceCandidate(
                        each.component,
                        each.foundation,
                        each.address,
                        each.port,
                        each.priority,
                        "udp",
                        each.kind,
                    )
                )

    async def trickle(self, fragment: Fragment) -> None:
        tagged = self._offer.bundle[0] if self._offer.bundle else self._offer.audio.mid
        await self.add_candidates(tuple(each for mid, each in fragment.candidates if mid in (None, tagged)))

    def _count_channel(self, _channel: object) -> None:
        self._channels += 1
        if self._channels > MAX_CHANNELS:
            self._lost.set()

    def _notice_loss(self) -> None:
        if self._dtls.state in ("closed", "failed"):
            self._lost.set()
