"""`voxthread media`: the role that faces callers as a process of its own."""

from pathlib import Path

from voxthread.app.agent_files import agent_files
from voxthread.app.entrance import Entrance
from voxthread.app.http import bind, open_http, url_of
from voxthread.app.media_role import open_media
from voxthread.app.process import checked_start, stop_signal
from voxthread.app.pulse import beating
from voxthread.app.shared_bus import open_shared_bus
from voxthread.config import Config
from voxthread.gateway.cors import Cors
from voxthread.observability.logs import get_logger

log = get_logger(__name__)


async def run_media(config: Config, agent_file: Path | None, worker_id: str) -> None:
    """Face callers until SIGTERM or SIGINT, then hand their sessions over. HTTP answers before the log does.

    `worker_id` names one life of one process.
    """
    checked_start(config)
    bound = bind(config.http)
    agents = [path.stem for path in agent_files(agent_file)]
    entrance = Entrance(Cors(config.http.cors_origins, methods=(), request_headers=(), exposed_headers=()))
    async with (
        open_http(entrance, config.http, bound),
        open_shared_bus(config, entrance.wait_for) as bus,
        beating(bus, worker_id) as pulse,
        open_media(config, bus, agents, worker_id) as media,
    ):
        entrance.open(media.http, pulse.trouble)
        log.info("media.ready", url=url_of(config.http, bound), agents=agents, worker_id=worker_id)
        await stop_signal()
        await media.drain()
        entrance.close()
