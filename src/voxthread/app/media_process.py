"""`voxthread media`: the role that faces callers as a process of its own."""

import gc
from contextlib import AsyncExitStack
from pathlib import Path
from socket import socket
from typing import Final

import anyio

from voxthread.app.agent_files import agent_files
from voxthread.app.entrance import Entrance
from voxthread.app.http import ListenError, bind, open_http, url_of
from voxthread.app.media_role import open_media
from voxthread.app.process import checked_start, stop_signals
from voxthread.app.pulse import beating
from voxthread.app.shared_bus import open_shared_bus
from voxthread.config import Config, HttpConfig
from voxthread.gateway.whip import whip_cors
from voxthread.observability.logs import get_logger

log = get_logger(__name__)

_ASK_AGAIN_S: Final = 0.25
"""Should nobody say that the process which has the port is dead."""


async def run_media(config: Config, agent_file: Path | None, worker_id: str, *, is_spare: bool = False) -> None:
    """Face callers until SIGTERM or SIGINT, then hand their sessions over. HTTP answers before the log does.

    `worker_id` names one life of one process. A spare that finds its port taken gets everything ready and
    takes it over as soon as it is free: whoever lost their line is answered before a process could start.
    """
    checked_start(config)
    agents = [path.stem for path in agent_files(agent_file)]
    entrance = Entrance(whip_cors(config.http.cors_origins))
    async with AsyncExitStack() as stack:
        bound = _listen_if_free(config.http) if is_spare else bind(config.http)
        if bound is not None:
            await stack.enter_async_context(open_http(entrance, config.http, bound))
        bus = await stack.enter_async_context(open_shared_bus(config, entrance.wait_for))
        pulse = await stack.enter_async_context(beating(bus, worker_id))
        media = await stack.enter_async_context(open_media(config, bus, agents, worker_id))
        stop = await stack.enter_async_context(stop_signals())
        entrance.open(media.http, pulse.trouble)
        _spare_the_clock()
        while bound is None and not stop.is_set():
            with anyio.move_on_after(_ASK_AGAIN_S):
                await media.attendance.news()
            bound = _listen_if_free(config.http)
            if bound is not None:
                await stack.enter_async_context(open_http(entrance, config.http, bound))
        if bound is not None:
            url = url_of(config.http, bound)
            log.info("media.ready", url=url, agents=agents, worker_id=worker_id)
        await stop.wait()
        await media.drain()
        entrance.close()


def _listen_if_free(config: HttpConfig) -> socket | None:
    """The port is taken by who listens: two processes may both have bound it (SO_REUSEADDR)."""
    try:
        bound = bind(config)
    except ListenError:
        return None
    try:
        bound.listen()
    except OSError:
        bound.close()
        return None
    return bound


def _spare_the_clock() -> None:
    """Keep what was loaded out of later collections, which hold up all calls (65 ms measured, 34 with this)."""
    gc.collect()
    gc.freeze()
