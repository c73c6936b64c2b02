"""The owner of the sessions as a process of its own, for buses that are shared:
`python -m voxthread.media_bench.owner PLAN`. Commands: `heard` (into a file)."""

import sys
from typing import Any

import anyio
import msgspec

from voxthread.bus.open import open_bus
from voxthread.config import read_config
from voxthread.media_bench.placement import take_place
from voxthread.media_bench.plan import ServerPlan, Tracks, read_file, write_file
from voxthread.media_bench.stub_owner import StubOwner
from voxthread.media_bench.workers import obey
from voxthread.observability.logs import configure_logging


async def run(plan: ServerPlan) -> None:
    configure_logging("error")
    place = take_place(plan.core, is_realtime=plan.is_realtime)
    config = read_config()
    async with open_bus(plan.bus_url, config.bus) as bus, anyio.create_task_group() as tasks:
        owner = StubOwner(bus, read_file(plan.tracks_file, Tracks).reply, keeps_heard=plan.keeps_heard)
        await tasks.start(owner.run)

        async def write_heard(file: str) -> dict[str, Any]:
            write_file(file, owner.take_heard())
            return {}

        await obey({"place": place}, {"heard": write_heard})
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(run, msgspec.json.decode(sys.argv[1], type=ServerPlan), backend_options={"use_uvloop": True})
