"""`voxthread serve`: every role in one process, on the memory bus.

page, WHIP, /ws  ->  door  ->  legs  <- bus ->  orchestrator  ->  engines
"""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from fastapi import FastAPI
from starlette.applications import Starlette

from voxthread import __version__
from voxthread.app.access import Access
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
from voxthread.gateway.sessions_api import create_sessions_routes, refuse_with_problems
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
from voxthread.sessions.stories import SessionStories
from voxthread.sessions.tokens import Authenticator, TokenVerifier, check_bind
from voxthread.wire.log import Bus

log = get_logger(__name__)

_EPOCH = 1
"""Of partitions that nobody else can claim."""


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
    """The roles of one process, wired; `http` is what uvicorn serves, `bus` the log of its sessions."""

    def __init__(self, http: Starlette, bus: Bus, legs: Legs, hub: EventHub) -> None:
        self.http = http
        self.bus = bus
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
    stories = SessionStories(bus)
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
        bus,
        engines,
        invalid_ids=invalid_ids,
        turn=turn_policy(config.turn),
        speech=speech_policy(config.turn),
        now=now_ms,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(registry.run)
        await tasks.start(hub.run)
        await tasks.start(stories.run)
        await tasks.start(orchestrator.run)
        for partition in partitions:
            await orchestrator.take(partition, _EPOCH)
        tasks.start_soon(door.run)
        tasks.start_soon(invalid_ids.run)
        settings = _media_settings(config)
        async with open_legs(bus, settings, partitions, reception, invalid_ids=invalid_ids) as legs:
            reception.legs = legs
            access = Access(authenticator, registry)
            http = FastAPI(
                title="Voxthread",
                version=__version__,
                docs_url=None,
                redoc_url=None,
                routes=[
                    *create_whip_routes(
                        door,
                        legs,
                        authenticate=access.publisher,
                        public_url=config.http.public_url,
                        cors_origins=config.http.cors_origins,
                    ),
                    *create_events_routes(
                        hub,
                        door,
                        legs,
                        invalid_ids=invalid_ids,
                        principal_of=access.follower,
                        allowed_origins=config.http.cors_origins,
                    ),
                    *create_agents_routes(tuple(engines.agents)),
                    *create_health_routes({"events": hub.unready}),
                    *create_page_routes(),
                ],
            )
            refuse_with_problems(http)
            http.include_router(
                create_sessions_routes(
                    stories,
                    invalid_ids=invalid_ids,
                    viewer_of=access.viewer,
                    is_open=authenticator.is_open,
                )
            )
            yield Server(http, bus, legs, hub)
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
