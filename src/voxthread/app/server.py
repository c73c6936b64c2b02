"""`voxthread serve` in one process: both roles on the memory bus.

page, WHIP, /ws  ->  door  ->  legs  <- bus ->  orchestrator  ->  engines
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette

from voxthread.app.engine_room import open_engines
from voxthread.app.http import bind, open_http, url_of
from voxthread.app.media_role import MediaRole, open_media
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.app.process import checked_start, stop_signal
from voxthread.bus.memory import MemoryBus
from voxthread.config import Config
from voxthread.media.legs import Legs
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.ports import Engines
from voxthread.wire.log import Bus

log = get_logger(__name__)

_WORKER_ID = "single"


async def serve(config: Config, agent_file: Path | None, on_ready: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, then say goodbye to every session. `on_ready` is told the URL."""
    checked_start(config)
    bound = bind(config.http)
    url = url_of(config.http, bound)
    async with (
        open_engines(config, agent_file) as engines,
        open_server(config, engines) as server,
        open_http(server.http, config.http, bound),
    ):
        log.info("server.ready", url=url, agents=list(engines.agents))
        on_ready(url)
        await stop_signal()
        await server.drain()


class Server:
    """Both roles; `bus` is the log of their sessions."""

    def __init__(self, media: MediaRole, bus: Bus) -> None:
        self._media = media
        self.bus = bus

    @property
    def http(self) -> Starlette:
        return self._media.http

    @property
    def legs(self) -> Legs:
        return self._media.legs

    async def drain(self) -> None:
        await self._media.drain()


@asynccontextmanager
async def open_server(config: Config, engines: Engines) -> AsyncIterator[Server]:
    """Both roles on a memory bus, with whatever engines; ready when this enters."""
    bus = MemoryBus(config.bus.partitions)
    async with (
        open_orchestrator(config, bus, engines, _WORKER_ID),
        open_media(config, bus, tuple(engines.agents), _WORKER_ID, is_bus_shared=False) as media,
    ):
        await media.attendance.complete()
        yield Server(media, bus)
