"""The role that faces callers: doors, media, page; it hosts the sessions' legs and decides nothing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from fastapi import FastAPI
from starlette.applications import Starlette

from voxthread import __version__
from voxthread.app.access import Access
from voxthread.app.reception import Reception
from voxthread.config import Config, HttpConfig, MediaConfig
from voxthread.core.failures import MediaError
from voxthread.gateway.agents import create_agents_routes
from voxthread.gateway.events import create_events_routes
from voxthread.gateway.health import create_health_routes
from voxthread.gateway.hub import EventHub
from voxthread.gateway.ice_servers import IceServers
from voxthread.gateway.limits import CallLimits
from voxthread.gateway.page import create_page_routes
from voxthread.gateway.sessions_api import create_sessions_routes, refuse_with_problems
from voxthread.gateway.whip import create_whip_routes
from voxthread.media.interfaces import host_addresses
from voxthread.media.legs import Legs, open_legs
from voxthread.media.settings import MediaSettings
from voxthread.observability.logs import get_logger
from voxthread.sessions.attendance import Attendance
from voxthread.sessions.door import SessionDoor
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SessionRegistry
from voxthread.sessions.stories import SessionStories
from voxthread.sessions.tokens import Authenticator, TokenVerifier
from voxthread.wire.log import Bus

log = get_logger(__name__)


class MediaRole:
    """`http` is what the HTTP server serves, `legs` are the sessions here."""

    def __init__(
        self,
        http: Starlette,
        legs: Legs,
        door: SessionDoor,
        hub: EventHub,
        attendance: Attendance,
        *,
        is_bus_shared: bool,
    ) -> None:
        self.http = http
        self.legs = legs
        self.attendance = attendance
        self._door = door
        self._hub = hub
        self._is_bus_shared = is_bus_shared

    async def drain(self) -> None:
        """Leave every session to other processes, or end it if there can be none, and close every socket."""
        if self._is_bus_shared:
            self._door.leave_all()
            await self.legs.hand_over_all("media_stopping")
        else:
            await self.legs.end_all("server_stopping")
        self._hub.drain()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What the routes are made of."""

    authenticator: Authenticator
    invalid_ids: InvalidIds
    registry: SessionRegistry
    door: SessionDoor
    legs: Legs
    hub: EventHub
    stories: SessionStories
    attendance: Attendance


@asynccontextmanager
async def open_media(
    config: Config, bus: Bus, agents: Sequence[str], media_id: str, *, is_bus_shared: bool = True
) -> AsyncIterator[MediaRole]:
    """`agents` are the names that callers may ask for, the first is the default; `media_id` names one life of
    one process; a bus is shared if processes other than this one are on it."""
    partitions = range(bus.partitions)
    invalid_ids, authenticator = InvalidIds(), _authenticator(config)
    hub, stories, attendance = EventHub(bus), SessionStories(bus), Attendance(bus)
    reception = Reception(hub, media_id)
    registry = SessionRegistry(bus, media_id=media_id, mint=SessionIdMint(), invalid_ids=invalid_ids)
    door = SessionDoor(
        registry,
        reception,
        invalid_ids=invalid_ids,
        agents=tuple(agents),
        partitions=partitions,
        allow_anonymous=authenticator.is_open,
    )
    reception.door = door
    async with anyio.create_task_group() as tasks:
        for run in (registry.run, hub.run, stories.run, attendance.run):
            await tasks.start(run)
        tasks.start_soon(door.run)
        tasks.start_soon(invalid_ids.run)
        settings = _media_settings(config, is_bus_shared=is_bus_shared)
        async with open_legs(bus, settings, partitions, reception, invalid_ids=invalid_ids) as legs:
            reception.legs = legs
            parts = _Parts(
                authenticator=authenticator,
                invalid_ids=invalid_ids,
                registry=registry,
                door=door,
                legs=legs,
                hub=hub,
                stories=stories,
                attendance=attendance,
            )
            http = _http(config, agents, parts)
            yield MediaRole(http, legs, door, hub, attendance, is_bus_shared=is_bus_shared)
        tasks.cancel_scope.cancel()


def _http(config: Config, agents: Sequence[str], parts: _Parts) -> FastAPI:
    access = Access(parts.authenticator, parts.registry)
    http = FastAPI(
        title="Voxthread",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        routes=[
            *create_whip_routes(
                parts.door,
                parts.legs,
                authenticate=access.publisher,
                public_url=config.http.public_url,
                cors_origins=config.http.cors_origins,
                limits=_limits(config.http),
                ice_servers=_ice_servers(config.media),
            ),
            *create_events_routes(
                parts.hub,
                parts.door,
                parts.legs,
                invalid_ids=parts.invalid_ids,
                principal_of=access.follower,
                allowed_origins=config.http.cors_origins,
            ),
            *create_agents_routes(tuple(agents)),
            *create_health_routes({"events": parts.hub.unready, "orchestrators": parts.attendance.unready}),
            *create_page_routes(),
        ],
    )
    refuse_with_problems(http)
    http.include_router(
        create_sessions_routes(
            parts.stories,
            invalid_ids=parts.invalid_ids,
            viewer_of=access.viewer,
            is_open=parts.authenticator.is_open,
        )
    )
    return http


def _media_settings(config: Config, *, is_bus_shared: bool) -> MediaSettings:
    """Raises `MediaError` `media.no_address`."""
    addresses = host_addresses(config.http.host, config.media.interfaces)
    if not addresses:
        chosen = ", ".join(config.media.interfaces) or "this machine's interfaces"
        raise MediaError("media.no_address", f"no address to receive media at: {chosen} have none")
    return MediaSettings(
        addresses=tuple(addresses),
        udp_ports=config.media.udp_ports,
        nat_1_1=config.media.nat_1_1,
        nat_keeps_private=config.media.nat_keeps_private,
        max_sessions=config.media.max_sessions,
        strict_rfc9725=config.media.strict_rfc9725,
        setup_timeout_ms=config.media.setup_timeout_ms,
        allow_remote_candidates=config.media.allow_remote_candidates,
        probe_networks=config.media.probe_networks,
        suspects_owners=is_bus_shared,
    )


def _limits(http: HttpConfig) -> CallLimits:
    return CallLimits(
        calls_per_minute=http.calls_per_minute,
        requests_per_minute=http.requests_per_minute,
        max_pending_calls=http.max_pending_calls,
        max_calls=http.max_calls,
    )


def _ice_servers(media: MediaConfig) -> IceServers:
    secret = media.turn_secret.get_secret_value() if media.turn_secret is not None else ""
    return IceServers(media.ice_servers, secret, media.turn_ttl_ms // 1000)


def _authenticator(config: Config) -> Authenticator:
    if config.auth.key is None:
        log.warning("auth.open", detail="no key is set: everybody on this machine may call")
        return Authenticator(None)
    verifier = TokenVerifier(
        config.auth.key.get_secret_value(), algorithm=config.auth.algorithm, audience=config.auth.audience
    )
    return Authenticator(verifier)
