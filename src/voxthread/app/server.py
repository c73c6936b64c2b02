"""`voxthread serve`: every role in one process, on the memory bus.

page, WHIP, /ws  ->  door  ->  legs  <- bus ->  orchestrator  ->  engines
"""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from voxthread.app.engine_room import open_engines
from voxthread.app.http import bind, open_http, url_of
from voxthread.app.policies import speech_policy, turn_policy
from voxthread.app.reception import Reception
from voxthread.bus.memory import MemoryBus
from voxthread.config import Config
from voxthread.gateway.agents import create_agents_routes
from voxthread.gateway.events import create_events_routes
from voxthread.gateway.health import create_health_routes
from voxthread.gateway.hub import EventHub
from voxthread.gateway.page import create_page_routes
from voxthread.gateway.whip import create_whip_routes
from voxthread.media.aiortc_seams import host_addresses
from voxthread.media.legs import Legs, open_legs
from voxthread.media.settings import MediaSettings
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import configure_logging, get_logger
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.door import SessionDoor
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SessionRegistry
from voxthread.sessions.tokens import Authenticator, Scope, TokenVerifier, check_bind

log = get_logger(__name__)


async def serve(config: Config, agent_file: Path | None, on_ready: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, then say goodbye to every session. `on_ready` is told the URL."""
    configure_logging(config.log_level)
    check_bind(config.http.host, _key(config))
    bound = bind(config.http)
    url = url_of(config.http, bound)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_engines(config, agent_file) as engines,
            open_server(config, engines) as server,
            open_http(server.http, config.http, bound),
        ):
            log.info("server.ready", url=url, agents=list(engines.agents))
            on_ready(url)
            async for received in signals:
                log.info("server.stopping", signal=received.name, sessions=len(server.legs))
                break
            await server.drain()


class Server:
    """The roles of one process, wired; `http` is what uvicorn serves."""

    def __init__(self, http: Starlette, legs: Legs, hub: EventHub) -> None:
        self.http = http
        self.legs = legs
        self._hub = hub

    async def drain(self) -> None:
        await self.legs.end_all("server_stopping")
        self._hub.drain()


@asynccontextmanager
async def open_server(config: Config, engines: Engines) -> AsyncIterator[Server]:
    """All roles on a memory bus, with whatever engines."""
    bus = MemoryBus(config.bus.partitions)
    partitions = range(bus.partitions)
    invalid_ids = InvalidIds()
    authenticator = _authenticator(config)
    hub = EventHub(bus)
    reception = Reception(hub)
    registry = SessionRegistry(bus, mint=SessionIdMint(), invalid_ids=invalid_ids)
    door = SessionDoor(
        registry,
        reception,
        invalid_ids=invalid_ids,
        agents=tuple(engines.agents),
        partitions=partitions,
        allow_anonymous=authenticator.is_open,
    )
    reception.door = door
    orchestrator = Orchestrator(
        bus, engines, turn=turn_policy(config.turn), speech=speech_policy(config.turn), now=now_ms
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(registry.run)
        await tasks.start(hub.run)
        await tasks.start(orchestrator.run, partitions)
        tasks.start_soon(door.run)
        tasks.start_soon(invalid_ids.run)
        async with open_legs(bus, _media_settings(config), partitions, reception) as legs:
            reception.legs = legs
            routes = [
                *create_whip_routes(
                    door,
                    legs,
                    authenticate=lambda bearer: authenticator.authenticate(bearer, Scope.PUBLISH),
                    public_url=config.http.public_url,
                    cors_origins=config.http.cors_origins,
                ),
                *create_events_routes(
                    hub,
                    door,
                    legs,
                    invalid_ids=invalid_ids,
                    principal_of=lambda connection: _principal_of(connection, authenticator),
                    allowed_origins=config.http.cors_origins,
                ),
                *create_agents_routes(tuple(engines.agents)),
                *create_health_routes({"events": hub.unready}),
                *create_page_routes(),
            ]
            yield Server(Starlette(routes=routes), legs, hub)
        tasks.cancel_scope.cancel()


def _media_settings(config: Config) -> MediaSettings:
    return MediaSettings(
        addresses=tuple(host_addresses(config.http.host)),
        max_sessions=config.media.max_sessions,
        strict_rfc9725=config.media.strict_rfc9725,
        setup_timeout_ms=config.media.setup_timeout_ms,
        allow_remote_candidates=config.media.allow_remote_candidates,
    )


def _key(config: Config) -> str | None:
    return config.auth.key.get_secret_value() if config.auth.key else None


def _authenticator(config: Config) -> Authenticator:
    key = _key(config)
    if key is None:
        log.warning("auth.open", detail="no key is set: everybody on this machine may call")
        return Authenticator(None)
    verifier = TokenVerifier(key, algorithm=config.auth.algorithm, audience=config.auth.audience)
    return Authenticator(verifier)


def _principal_of(connection: HTTPConnection, authenticator: Authenticator) -> str:
    """Who a socket's bearer token names. Without one nobody in particular: a session token may still join.

    Raises `SessionError` for a token that is wrong.
    """
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return authenticator.authenticate(bearer.strip(), Scope.READ_EVENTS)
    return Authenticator(None).authenticate(None, Scope.READ_EVENTS)
