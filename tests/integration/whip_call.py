"""A WHIP server on the memory bus and callers that speak to it, for the integration tests of both."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import anyio
import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from starlette.applications import Starlette

from voxthread.bus.memory import MemoryBus
from voxthread.core.failures import SessionError
from voxthread.gateway.whip import create_whip_routes
from voxthread.media.aiortc_seams import dtls_of, take_over_media
from voxthread.media.legs import Legs, open_legs
from voxthread.media.link import RtpLink
from voxthread.media.opus_packets import SILENCE
from voxthread.media.rtp import RtpPacket
from voxthread.media.settings import MediaSettings
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.audio import AudioRecord, decode_audio, is_audio
from voxthread.wire.facts import InFact, SessionOpened, decode_in_fact
from voxthread.wire.log import Record, Stream
from voxthread.wire.stamp import Stamp

URL = "http://127.0.0.1:8080"
PARTITION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    session_id: str
    frontend_session_id: str
    token: str
    partition: int = PARTITION
    resume_token: str | None = None
    is_new: bool


@dataclass(slots=True)
class Door:
    """Opens a session for anybody. A token `vst_<session id>` joins that session."""

    legs: Legs | None = None
    opened: list[str] = field(default_factory=list)
    resumed: list[tuple[str, str]] = field(default_factory=list)
    story: list[tuple[str, ...]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def open(
        self,
        *,
        frontend_session_id: str | None,
        principal: str,
        session_token: str | None,
        agent: str | None,
        via: Literal["whip", "ws"],
    ) -> Opened:
        assert self.legs is not None
        if frontend_session_id == "short":
            raise SessionError("too_short", "a session id has at least 20 characters")
        if session_token is not None:
            session_id = session_token.removeprefix("vst_")
            return Opened(
                session_id=session_id, frontend_session_id=session_id, token=session_token, is_new=False
            )
        session_id = f"session_1753590741399040_{next(self.numbers):08x}"
        fact = SessionOpened(
            agent=agent or "echo",
            principal=principal,
            via=via,
            created_at_ms=0,
            frontend_session_id=frontend_session_id,
        )
        await self.legs.open_leg(session_id, PARTITION, fact)
        self.opened.append(session_id)
        return Opened(
            session_id=session_id,
            frontend_session_id=frontend_session_id or session_id,
            token=f"vst_{session_id}",
            is_new=True,
        )

    async def resume(self, resume_token: str, *, principal: str, frontend_session_id: str | None) -> Opened:
        self.resumed.append((resume_token, principal))
        if resume_token != "vrt_good":
            raise SessionError("resume_token_invalid", "the resume token resumes no session")
        session_id = self.opened[-1]
        return Opened(
            session_id=session_id,
            frontend_session_id=session_id,
            token=f"vst_{session_id}",
            resume_token="vrt_next",
            is_new=False,
        )

    def authorize(self, session_id: str, *, principal: str, session_token: str | None) -> None:
        if session_token not in (None, f"vst_{session_id}"):
            raise SessionError("session_forbidden", "the session token is another session's")
        if session_token is None and principal != "alice":
            raise SessionError("session_forbidden", "the session is another principal's")

    def peer_connected(self, session_id: str) -> None:
        self.story.append(("connected", session_id))

    def peer_lost(self, session_id: str) -> None:
        self.story.append(("lost", session_id))

    async def leg_ended(self, session_id: str, reason: str) -> None:
        self.story.append(("ended", session_id, reason))


@dataclass(slots=True)
class Server:
    bus: MemoryBus
    legs: Legs
    door: Door
    http: httpx.AsyncClient

    async def post(self, offer: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            "/whip", content=offer.encode(), headers={"Content-Type": "application/sdp", **named}
        )

    async def heard(self, until: Callable[[InFact | AudioRecord], bool]) -> list[InFact | AudioRecord]:
        """Everything on `voxthread.in` up to the first record that `until` accepts."""
        records: list[InFact | AudioRecord] = []
        with anyio.fail_after(10):
            async for stored in self.bus.read(Stream.IN, PARTITION, 0):
                value = stored.record.value
                records.append(decode_audio(value) if is_audio(value) else decode_in_fact(value).fact)
                if until(records[-1]):
                    break
        return records

    async def say(self, record: Record) -> None:
        await self.bus.append(Stream.OUT, PARTITION, record)


def stamp_of(response: httpx.Response) -> Stamp:
    """What the owner of the response's session stamps its records with."""
    return Stamp(response.headers["X-Session-ID"], epoch=1)


@asynccontextmanager
async def whip_server(
    authenticate: Callable[[str | None], str] = lambda bearer: "anonymous_1",
    bus: MemoryBus | None = None,
    *,
    routes: Mapping[str, Any] | None = None,
    client: str = "127.0.0.1",
    **settings: Any,
) -> AsyncIterator[Server]:
    """`routes` are further arguments of `create_whip_routes`; `client` is where requests seem to come from."""
    bus, door = bus or MemoryBus(2), Door()
    async with open_legs(
        bus, MediaSettings(**settings), [0, PARTITION], door, invalid_ids=InvalidIds()
    ) as legs:
        door.legs = legs
        app = Starlette(routes=create_whip_routes(door, legs, authenticate=authenticate, **(routes or {})))
        transport = httpx.ASGITransport(app, client=(client, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
            yield Server(bus, legs, door, http)


class Caller:
    """An aiortc peer whose audio goes over our own link."""

    def __init__(self, connection: RTCPeerConnection | None = None) -> None:
        self.connection = connection or RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.received: list[RtpPacket] = []
        self._link: RtpLink | None = None
        self._arrived = anyio.Event()

    async def offer(self, direction: str = "sendrecv", *, data: bool = False) -> str:
        self.connection.addTransceiver("audio", direction=direction)
        take_over_media(self.connection)
        if data:
            self.connection.createDataChannel("events")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def connect(self, answer: str) -> RtpLink:
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        settled = anyio.Event()

        def check() -> None:
            if self.connection.connectionState == "connected":
                settled.set()

        self.connection.on("connectionstatechange", check)
        check()
        with anyio.fail_after(5):
            await settled.wait()
        self._link = RtpLink(dtls_of(self.connection), payload_type=96, on_packet=self._receive)
        return self._link

    @property
    def link(self) -> RtpLink:
        assert self._link is not None
        return self._link

    @property
    def voice(self) -> list[bytes]:
        """Payloads that are not the silence that keeps the line alive."""
        return [packet.payload for packet in self.received if packet.payload != SILENCE]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for packets until `condition` holds."""
        with anyio.fail_after(5):
            while not condition():
                self._arrived = anyio.Event()
                await self._arrived.wait()

    async def close(self) -> None:
        if self._link is not None:
            self._link.detach()
        await self.connection.close()

    def _receive(self, packet: RtpPacket, arrival_us: int) -> None:
        self.received.append(packet)
        self._arrived.set()


@asynccontextmanager
async def calling(
    server: Server, direction: str = "sendrecv", *, data: bool = False
) -> AsyncIterator[tuple[Caller, httpx.Response]]:
    """A connected call."""
    caller = Caller()
    try:
        response = await server.post(await caller.offer(direction, data=data))
        assert response.status_code == 201, response.text
        await caller.connect(response.text)
        yield caller, response
    finally:
        await caller.close()
