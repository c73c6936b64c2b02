"""The WebRTC half of a call: an aiortc peer connection as offerer, its audio over our own RTP path."""

import re
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

import anyio
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from voxthread.client.failures import CallError
from voxthread.core.failures import MediaError
from voxthread.media.aiortc_seams import dtls_of, gather_at, take_over_media
from voxthread.media.interfaces import host_addresses
from voxthread.media.link import Negotiated, RtpLink
from voxthread.media.ports import bind_sockets
from voxthread.media.rtp import RtpPacket

_NACK = re.compile(r"^a=rtcp-fb:(?:\d+|\*) nack\s*$", re.MULTILINE)
_LEVEL = re.compile(r"^a=extmap:(\d+)(?:/\w+)? urn:ietf:params:rtp-hdrext:ssrc-audio-level\b", re.MULTILINE)
_OPUS = re.compile(r"^a=rtpmap:(\d+) opus/48000", re.IGNORECASE | re.MULTILINE)
_UNUSABLE_ANSWER = (
    ValueError,
    KeyError,
    AssertionError,
    AttributeError,
    OperationError,
    InvalidAccessError,
    InvalidStateError,
)
"""What aiortc raises for session descriptions it cannot use."""

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


class Peer:
    """One audio section, `sendrecv`. `on_lost(state)` is called once if a connected peer is lost."""

    def __init__(
        self, url: str, *, on_packet: Callable[[RtpPacket, int], None], on_lost: Callable[[str], None]
    ) -> None:
        host = urlsplit(url).hostname or ""
        self._addresses = host_addresses(host if host in _LOOPBACK_HOSTS else "0.0.0.0")
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._link: RtpLink | None = None
        self._is_closing = False
        self._settled = anyio.Event()
        # Without an empty list aiortc asks a public STUN server and waits for it.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.on("connectionstatechange", self._state_changed)

    async def __aenter__(self) -> "Peer":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Also when cancelled. May be called again."""
        self._is_closing = True
        with anyio.CancelScope(shield=True):
            if self._link is not None:
                self._link.detach()
            await self._connection.close()

    async def offer(self) -> str:
        """The SDP to send, with all candidates. Raises `CallError`."""
        audio = self._connection.addTransceiver("audio", direction="sendrecv")
        capabilities = RTCRtpSender.getCapabilities("audio").codecs
        audio.setCodecPreferences([codec for codec in capabilities if codec.mimeType.lower() == "audio/opus"])
        take_over_media(self._connection)
        try:
            sockets = bind_sockets(self._addresses, None)
        except MediaError as error:
            raise CallError("call.no_network", error.detail, retryable=True) from error
        await gather_at(dtls_of(self._connection).transport.iceGatherer, sockets)
        await self._connection.setLocalDescription(await self._connection.createOffer())
        # aiortc does not offer it for audio; `RtpLink` can do it.
        return _OPUS.sub(_offer_nack, self._connection.localDescription.sdp)

    async def connect(self, answer: str, *, timeout_ms: int) -> None:
        """Take the answer and wait for ICE and DTLS. Raises `CallError`."""
        opus = _OPUS.search(answer)
        if opus is None:
            raise CallError("call.refused", "the server's answer has no Opus")
        if "a=sendrecv" not in answer:
            raise CallError("call.deaf", "the server will not send the agent's voice: is `strict_rfc9725` on?")
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except _UNUSABLE_ANSWER as error:
            raise CallError("call.refused", f"the server's answer cannot be used: {error}") from error
        with anyio.move_on_after(timeout_ms / 1000):
            await self._settled.wait()
        if self._connection.connectionState != "connected":
            raise CallError(
                "call.not_connected",
                f"no media connection within {timeout_ms} ms (ICE is "
                f"{self._connection.iceConnectionState}): is UDP to the server open?",
                retryable=True,
            )
        self._link = RtpLink(
            dtls_of(self._connection),
            payload_type=int(opus.group(1)),
            on_packet=self._on_packet,
            negotiated=_agreed(answer),
        )

    @property
    def link(self) -> RtpLink:
        """Where packets go, once connected."""
        assert self._link is not None, "the peer is not connected"
        return self._link

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state in ("connected", "failed", "closed"):
            if self._settled.is_set() and not self._is_closing and state != "connected":
                self._is_closing = True
                self._on_lost(state)
            self._settled.set()


def _offer_nack(rtpmap: re.Match[str]) -> str:
    return f"a=rtcp-fb:{rtpmap.group(1)} nack\r\n{rtpmap.group(0)}"


def _agreed(answer: str) -> Negotiated:
    level = _LEVEL.search(answer)
    return Negotiated(nack=_NACK.search(answer) is not None, level_id=int(level.group(1)) if level else 0)
