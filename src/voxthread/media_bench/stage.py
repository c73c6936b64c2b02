"""The processes of a measurement: a server of either stack, its callers, an owner where the bus is shared."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from anyio.to_thread import run_sync

from voxthread.media_bench.placement import cores
from voxthread.media_bench.plan import (
    CallerPlan,
    Conditions,
    Heard,
    Measured,
    RubbishPlan,
    ServerPlan,
    Tracks,
    Usage,
    read_file,
    write_file,
)
from voxthread.media_bench.workers import Worker, open_worker

Stack = Literal["voxthread", "aiortc"]

CHURNED_AT_ONCE: Final = 50
_SERVERS: Final[dict[Stack, str]] = {"voxthread": "server", "aiortc": "aiortc_server"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many calls at once, caller and agent speaking all the time, for so long."""

    sessions: int
    seconds: float
    conditions: Conditions = field(default_factory=Conditions)
    rubbish_per_s: int = 0
    """Datagrams that a stranger sends to the port of one of the calls."""
    bus_url: str = "memory"
    compares_aiortc: bool = False
    churned_sessions: int = 0
    """Opened and closed `CHURNED_AT_ONCE` at a time, on a fresh server."""
    wer_seeds: int = 0
    """Then count the words that are understood on so many lines, each bad in its own way."""

    @property
    def stacks(self) -> tuple[Stack, ...]:
        return ("voxthread", "aiortc") if self.compares_aiortc else ("voxthread",)


@dataclass(frozen=True, slots=True)
class Stage:
    scratch: Path
    server: Worker
    callers: Worker
    owner: Worker | None

    async def usage(self) -> Usage:
        """Of the server."""
        return msgspec.convert(await self.server.ask("usage"), Usage)

    async def open(self, calls: int) -> list[float]:
        """Milliseconds from each POST to the first media packet."""
        opened = await self.callers.ask("open", calls=calls)
        return [after_us / 1000 for after_us in opened["media_after_us"]]

    @asynccontextmanager
    async def rubbish(self, per_s: int) -> AsyncIterator[Worker | None]:
        """Have a stranger, if anything, send so much on the callers' core, in what time they leave."""
        if not per_s:
            yield None
            return
        target = await self.callers.ask("port")
        _, caller_core = cores()
        plan = RubbishPlan(host=target["host"], port=target["port"], per_s=per_s, core=caller_core)
        async with open_worker("rubbish", plan) as stranger:
            yield stranger

    async def warm(self, seconds: float) -> None:
        await self.callers.ask("measure", seconds=seconds)

    async def measured(self, seconds: float) -> Measured:
        file = str(self.scratch / "measured")
        await self.callers.ask("measure", seconds=seconds, file=file)
        return await run_sync(read_file, file, Measured)

    async def heard(self) -> Heard:
        file = str(self.scratch / "heard")
        await (self.owner or self.server).ask("heard", file=file)
        return await run_sync(read_file, file, Heard)

    @property
    def places(self) -> dict[str, Any]:
        return {"server": self.server.ready["place"], "callers": self.callers.ready["place"]}


@asynccontextmanager
async def staged(
    stack: Stack, load: Load, tracks: Tracks, *, keeps_heard: bool = True, keeps_audio: bool = False
) -> AsyncIterator[Stage]:
    """Raises `BenchError`."""
    server_core, caller_core = cores()
    async with AsyncExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="voxthread-media-")))
        tracks_file = str(scratch / "tracks")
        await run_sync(write_file, tracks_file, tracks)
        plan = ServerPlan(
            tracks_file=tracks_file,
            bus_url=load.bus_url,
            max_sessions=max(load.sessions, 2 * CHURNED_AT_ONCE),
            core=server_core,
            keeps_heard=keeps_heard,
            keeps_audio=keeps_audio,
        )
        owner = None
        if load.bus_url != "memory" and stack == "voxthread":
            beside = msgspec.structs.replace(plan, core=caller_core, is_realtime=False)
            owner = await opened.enter_async_context(open_worker("owner", beside))
        server = await opened.enter_async_context(open_worker(_SERVERS[stack], plan))
        called = CallerPlan(
            url=server.ready["url"], tracks_file=tracks_file, conditions=load.conditions, core=caller_core
        )
        callers = await opened.enter_async_context(open_worker("callers", called))
        yield Stage(scratch, server, callers, owner)
