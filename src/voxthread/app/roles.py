"""`voxthread media` and `voxthread orchestrator`: the roles as processes of their own, met on a shared log."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio

from voxthread.app.engine_room import agent_files, open_engines
from voxthread.app.http import bind, open_http, url_of
from voxthread.app.media_role import open_media
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.app.process import checked_start, stop_signal
from voxthread.bus.open import open_bus
from voxthread.config import BusConfig, Config
from voxthread.core.failures import BusError
from voxthread.observability.logs import configure_logging, get_logger
from voxthread.wire.log import Bus

log = get_logger(__name__)

_RETRY_S = 1.0
_DRAIN_S = 5.0  # while the log is away nothing can be handed over


class RoleError(BusError):
    """The roles cannot meet."""


async def run_media(config: Config, agent_file: Path | None, on_ready: Callable[[str], None]) -> None:
    """Face callers until SIGTERM or SIGINT, then say goodbye to every session here."""
    checked_start(config)
    bound = bind(config.http)
    url = url_of(config.http, bound)
    agents = [path.stem for path in agent_files(agent_file)]
    async with (
        _open_shared_bus(config.bus) as bus,
        open_media(config, bus, agents) as media,
        open_http(media.http, config.http, bound),
    ):
        log.info("media.ready", url=url, agents=agents)
        on_ready(url)
        await stop_signal()
        await media.drain()


async def run_orchestrator(config: Config, agent_file: Path | None, worker_id: str) -> None:
    """Own sessions until SIGTERM or SIGINT, then hand them over. `worker_id` names one life of one process."""
    configure_logging(config.log_level, for_good=True)
    async with (
        open_engines(config, agent_file) as engines,
        _open_shared_bus(config.bus) as bus,
        open_orchestrator(config, bus, engines, worker_id) as claims,
    ):
        log.info("orchestrator.ready", worker_id=worker_id, agents=list(engines.agents))
        await stop_signal()
        with anyio.move_on_after(_DRAIN_S):
            await claims.drain()


@asynccontextmanager
async def _open_shared_bus(config: BusConfig) -> AsyncIterator[Bus]:
    """A log that is away is waited for. Raises `BusError` for one that no waiting mends."""
    if config.url == "memory":
        raise RoleError(
            "bus.not_shared",
            "roles in processes of their own need a log they share: --bus sqlite:FILE or kafka://...",
        )
    async with AsyncExitStack() as stack:
        while True:
            try:
                bus = await stack.enter_async_context(open_bus(config.url, config))
                break
            except BusError as error:
                if not error.retryable:
                    raise
                log.warning("log.waiting", code=error.code, detail=error.detail)
                await anyio.sleep(_RETRY_S)
        yield bus
