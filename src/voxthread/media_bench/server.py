"""The media process that is measured: `python -m voxthread.media_bench.server PLAN`.

The role as `voxthread media` runs it, HTTP included. On a bus of its own (`memory`) the owner of the sessions
is in it too, as in `serve --single`. Commands: `usage`, `heard` (into a file).
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec

from voxthread.app.http import bind, open_http, url_of
from voxthread.app.media_role import open_media
from voxthread.bus.memory import MemoryBus
from voxthread.bus.open import open_bus
from voxthread.bus.policies import MIB
from voxthread.config import Config, read_config
from voxthread.media_bench.placement import take_place
from voxthread.media_bench.plan import ServerPlan, Tracks, read_file, write_file
from voxthread.media_bench.stub_owner import StubOwner
from voxthread.media_bench.usage import usage
from voxthread.media_bench.workers import obey
from voxthread.observability.logs import configure_logging
from voxthread.wire.log import Bus, Stream

_MEDIA_ID: Final = "bench-media"
_KEPT_BYTES: Final = MIB // 8
"""Of each partition: the log is not what is measured, and on another bus not in this process."""


async def run(plan: ServerPlan) -> None:
    configure_logging("error")
    place = take_place(plan.core, is_realtime=plan.is_realtime)
    is_alone = plan.bus_url == "memory"
    config = read_config(http={"port": 0}, media={"max_sessions": plan.max_sessions})
    owner: StubOwner | None = None
    bound = bind(config.http)
    async with (
        _open_bus(plan, config) as bus,
        open_media(config, bus, ("bench",), _MEDIA_ID, is_bus_shared=not is_alone) as media,
        open_http(media.http, config.http, bound),
        anyio.create_task_group() as tasks,
    ):
        if is_alone:
            owner = StubOwner(bus, read_file(plan.tracks_file, Tracks).reply, keeps_heard=plan.keeps_heard)
            await tasks.start(owner.run)

        async def tell_usage() -> dict[str, Any]:
            told: dict[str, Any] = msgspec.to_builtins(usage())
            return told

        async def write_heard(file: str) -> dict[str, Any]:
            if owner is not None:
                write_file(file, owner.take_heard())
            return {}

        await obey(
            {"url": url_of(config.http, bound), "place": place}, {"usage": tell_usage, "heard": write_heard}
        )
        await media.drain()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _open_bus(plan: ServerPlan, config: Config) -> AsyncIterator[Bus]:
    if plan.bus_url == "memory":
        yield MemoryBus(config.bus.partitions, dict.fromkeys(Stream, _KEPT_BYTES))
    else:
        async with open_bus(plan.bus_url, config.bus) as bus:
            yield bus


if __name__ == "__main__":
    anyio.run(run, msgspec.json.decode(sys.argv[1], type=ServerPlan), backend_options={"use_uvloop": True})
