"""The page and its events socket for real; the rest of a server as a test scripts it."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voxthread.bus.memory import MemoryBus
from voxthread.core.events import Event
from voxthread.core.failures import SessionError
from voxthread.gateway.events import EventHub, create_events_routes
from voxthread.gateway.page import create_page_routes
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.facts import InFact
from voxthread.wire.log import Stream

SESSION_ID = "session_1753590741399040_5cc15fe6"
TOKEN = "vst_scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    session_id: str = SESSION_ID
    frontend_session_id: str = SESSION_ID
    token: str = TOKEN
    partition: int = 0
    is_new: bool = False


@dataclass(kw_only=True)
class PageServer:
    """One session; `publish` is the pen of its owner."""

    url: str
    bus: MemoryBus
    hub: EventHub
    agents: list[str] = field(default_factory=lambda: ["hotel"])
    whip_answer: Response = field(default_factory=lambda: Response(status_code=404))
    session: Opened = field(default_factory=Opened)
    sent: list[InFact] = field(default_factory=list)
    is_over: bool = False
    is_away: bool = False
    """Whether offers find nobody."""
    lost_answers: int = 0
    """How many offers are granted, and answered by a connection that is reset."""
    resume_token: str = ""
    _http: uvicorn.Server | None = None
    _seq: int = 0

    def admit(self, request: Mapping[str, str]) -> dict[str, str] | None:
        """The headers that answer an offer; None if it wants to resume with another token than the newest."""
        resume_token = request.get("x-resume-token")
        if resume_token is None:
            self.session = replace(self.session, frontend_session_id=request["x-session-id"])
        elif resume_token != self.resume_token:
            return None
        self.resume_token = secrets.token_hex(16)
        return {
            "Location": "/whip/secret",
            "X-Session-ID": SESSION_ID,
            "X-Frontend-Session-ID": self.session.frontend_session_id,
            "X-Session-Token": self.session.token,
            "X-Resume-Token": self.resume_token,
        }

    def die(self) -> None:
        """As a media process that is killed: its sockets are reset, its tokens known to nobody."""
        assert self._http is not None
        self.session = replace(self.session, token=f"vst_{secrets.token_hex(16)}")
        for connection in [*self._http.server_state.connections]:
            connection.transport.abort()

    async def open(
        self,
        *,
        frontend_session_id: str | None,
        principal: str,
        session_token: str | None,
        agent: str | None,
        via: Literal["whip", "ws"],
    ) -> Opened:
        if session_token is None:
            assert frontend_session_id is not None
            self.session = replace(self.session, frontend_session_id=frontend_session_id)
            return replace(self.session, is_new=True)
        if session_token != self.session.token or self.is_over:
            raise SessionError("session_unknown", "the token's session is over")
        return self.session

    async def send(self, session_id: str, fact: InFact) -> None:
        assert session_id == SESSION_ID
        self.sent.append(fact)

    async def publish(self, *events: Event) -> None:
        for event in events:
            self._seq += 1
            envelope = Envelope(
                session_id=SESSION_ID,
                frontend_session_id=self.session.frontend_session_id,
                epoch=1,
                seq=self._seq,
                at_ms=1_763_800_000_000 + self._seq,
                event=event,
            )
            await self.bus.append(Stream.EVENTS, 0, encode_event(envelope))


@asynccontextmanager
async def open_page_server(port: int = 0) -> AsyncIterator[PageServer]:
    bus = MemoryBus(partitions=1)
    hub = EventHub(bus)
    scripted = PageServer(url="", bus=bus, hub=hub)

    async def whip(_request: Request) -> Response:
        return scripted.whip_answer

    async def agents(_request: Request) -> Response:
        return JSONResponse({"agents": scripted.agents, "default": scripted.agents[0]})

    routes = [
        *create_page_routes(),
        *create_events_routes(
            hub, scripted, scripted, invalid_ids=InvalidIds(), principal_of=lambda _connection: "anonymous"
        ),
        Route("/whip", whip, methods=["POST"]),
        Route("/v1/agents", agents),
    ]
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=routes), port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1
        )
    )
    scripted._http = server
    served = anyio.Event()

    async def serve() -> None:
        await server.serve()
        served.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(hub.run)
        tasks.start_soon(serve)
        with anyio.fail_after(10):
            while not server.started:
                await anyio.lowlevel.checkpoint()
        scripted.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        try:
            yield scripted
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True), anyio.fail_after(10):
                await served.wait()
            tasks.cancel_scope.cancel()
