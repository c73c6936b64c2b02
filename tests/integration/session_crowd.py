"""Both doors of a gateway over real HTTP and WebSockets, with peers and session owners that are fakes.

The owner of each session writes its events as an orchestrator would; what frontends say comes back to it.
"""

import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from voxthread.app.http import bind, open_http, url_of
from voxthread.bus.memory import MemoryBus
from voxthread.config import HttpConfig
from voxthread.core.events import (
    Event,
    SessionBound,
    SessionClosed,
    SessionCreated,
    SessionIdInvalid,
    UserTranscript,
)
from voxthread.gateway.events import SocketLimits, create_events_routes
from voxthread.gateway.hub import EventHub
from voxthread.gateway.whip import create_whip_routes
from voxthread.sessions.door import SessionDoor
from voxthread.sessions.host import Via
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SessionRegistry
from voxthread.wire.claims import SessionClaim
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.facts import EndCommand, InFact, TextCommand
from voxthread.wire.log import Stream


def allow_sockets(count: int) -> None:
    """A process may have a thousand files open unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@dataclass(slots=True)
class _Owned:
    partition: int
    frontend_session_id: str
    seq: int = 0


class Owners:
    """The host of all sessions, and the owner of each."""

    def __init__(self, bus: MemoryBus, hub: EventHub) -> None:
        self._bus = bus
        self._hub = hub
        self._owned: dict[str, _Owned] = {}
        self.heard: dict[str, list[str]] = {}
        """What the frontends of each session have said."""
        self.door: SessionDoor

    async def session_opened(self, session: SessionClaim, via: Via) -> None:
        self._hub.expect(session.session_id, session.partition)
        alias = session.frontend_session_id or session.session_id
        self._owned[session.session_id] = _Owned(session.partition, alias)
        self.heard[session.session_id] = []
        created = SessionCreated(agent=session.agent, partition=session.partition, via=via)
        await self.publish(session.session_id, created)

    def check_room(self) -> None:
        return

    async def leg_resumed(self, session: SessionClaim, epoch: int, frontend_session_id: str) -> None:
        raise AssertionError("there is no other media process")

    def leg_moved(self, session_id: str) -> None:
        raise AssertionError("there is no other media process")

    async def frontend_bound(self, session_id: str, frontend_session_id: str) -> None:
        self._owned[session_id].frontend_session_id = frontend_session_id
        await self.publish(session_id, SessionBound())

    async def id_refused(self, session_id: str, rule: str) -> None:
        await self.publish(session_id, SessionIdInvalid(rule=rule))

    async def session_closed(self, session_id: str, reason: str) -> None:
        await self.publish(session_id, SessionClosed(reason=reason))

    async def send(self, session_id: str, fact: InFact) -> None:
        match fact:
            case TextCommand(text=text):
                self.heard[session_id].append(text)
                await self.publish(session_id, UserTranscript(utterance_id=1, text=text, final=True))
            case EndCommand(reason=reason):
                await self.door.close(session_id, reason)

    async def publish(self, session_id: str, event: Event) -> None:
        owned = self._owned[session_id]
        owned.seq += 1
        envelope = Envelope(
            session_id=session_id,
            frontend_session_id=owned.frontend_session_id,
            epoch=0,
            seq=owned.seq,
            at_ms=1_763_800_000_000,
            event=event,
        )
        await self._bus.append(Stream.EVENTS, owned.partition, encode_event(envelope))


class FakeConnection:
    answer = "v=0\r\n"

    def __init__(self, session_id: str, door: SessionDoor) -> None:
        self.is_closed = False
        self._session_id = session_id
        self._door = door

    def is_restart(self, fragment: str) -> bool:
        return False

    async def trickle(self, fragment: str) -> None:
        return

    async def close(self, reason: str) -> None:
        self.is_closed = True
        await self._door.close(self._session_id, reason)


class FakePeers:
    """Every offer is answered and connected at once."""

    def __init__(self, door: SessionDoor) -> None:
        self._door = door

    def has_room(self) -> bool:
        return True

    def check_offer(self, offer: str) -> None:
        return

    async def connect(self, session_id: str, offer: str) -> FakeConnection:
        self._door.peer_connected(session_id)
        return FakeConnection(session_id, self._door)

    def end(self, session_id: str, reason: str) -> None:
        raise AssertionError("no offer is refused once its session is open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    url: str
    registry: SessionRegistry
    owners: Owners


def principal_of(bearer: str | None) -> str:
    assert bearer is not None
    return bearer


def _principal_at_socket(connection: HTTPConnection) -> str:
    return connection.headers["authorization"].removeprefix("Bearer ")


@asynccontextmanager
async def open_crowd(agents: Sequence[str] = ("echo",), *, max_sockets: int) -> AsyncIterator[Crowd]:
    """A bearer token is the principal's name."""
    bus = MemoryBus()
    invalid_ids = InvalidIds()
    hub = EventHub(bus)
    owners = Owners(bus, hub)
    registry = SessionRegistry(bus, media_id="media_a", mint=SessionIdMint(), invalid_ids=invalid_ids)
    door = SessionDoor(
        registry,
        owners,
        invalid_ids=invalid_ids,
        agents=agents,
        partitions=range(bus.partitions),
        allow_anonymous=False,
    )
    owners.door = door
    limits = SocketLimits(max_sockets=max_sockets, bind_ms=60_000)
    routes = [
        *create_whip_routes(door, FakePeers(door), authenticate=principal_of),
        *create_events_routes(
            hub, door, owners, invalid_ids=invalid_ids, principal_of=_principal_at_socket, limits=limits
        ),
    ]
    config = HttpConfig(port=0)
    bound = bind(config)
    async with anyio.create_task_group() as tasks:
        await tasks.start(registry.run)
        await tasks.start(hub.run)
        async with open_http(Starlette(routes=routes), config, bound):
            yield Crowd(url=url_of(config, bound), registry=registry, owners=owners)
        tasks.cancel_scope.cancel()
