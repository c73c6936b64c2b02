"""`voxthread orchestrator`: the role that owns sessions as a process of its own."""

from pathlib import Path

import anyio

from voxthread.app.engine_room import open_engines
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.app.process import stop_signal
from voxthread.app.shared_bus import open_shared_bus
from voxthread.config import Config
from voxthread.observability.logs import configure_logging, get_logger

log = get_logger(__name__)

_DRAIN_S = 5.0  # while the log is away nothing can be handed over


async def run_orchestrator(config: Config, agent_file: Path | None, worker_id: str) -> None:
    """Own sessions until SIGTERM or SIGINT, then hand them over. `worker_id` names one life of one process."""
    configure_logging(config.log_level, for_good=True)
    async with (
        open_engines(config, agent_file) as engines,
        open_shared_bus(config) as bus,
        open_orchestrator(config, bus, engines, worker_id) as claims,
    ):
        log.info("orchestrator.ready", worker_id=worker_id, agents=list(engines.agents))
        await stop_signal()
        with anyio.move_on_after(_DRAIN_S):
            await claims.drain()
