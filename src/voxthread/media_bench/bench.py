"""`voxthread bench media`: one load on one server, or on two in turn, as figures."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from anyio.to_thread import run_sync

from voxthread.client.bench import load_average, machine
from voxthread.client.speech import VoiceName
from voxthread.media_bench import figures
from voxthread.media_bench.placement import cores
from voxthread.media_bench.plan import (
    CallerPlan,
    Conditions,
    Heard,
    Measured,
    ServerPlan,
    Tracks,
    Usage,
    read_file,
    write_file,
)
from voxthread.media_bench.recovery import recovery_json, recovery_of
from voxthread.media_bench.tracks import spoken_tracks
from voxthread.media_bench.workers import Worker, open_worker

Stack = Literal["voxthread", "aiortc"]

_SERVERS: Final[dict[Stack, str]] = {"voxthread": "server", "aiortc": "aiortc_server"}
_WARM_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many calls at once, caller and agent speaking all the time, for so long."""

    sessions: int
    seconds: float
    conditions: Conditions = field(default_factory=Conditions)
    bus_url: str = "memory"
    compares_aiortc: bool = False
    measures_wer: bool = False
    churned_sessions: int = 0
    """Opened and closed `CHURNED_AT_ONCE` at a time, on a fresh server."""


CHURNED_AT_ONCE: Final = 50
_CHURN_FIRST: Final = 0.3
"""Memory after this share of them is compared with that after all."""


async def run_media_bench(
    load: Load, *, voice: VoiceName, models_dir: Path, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The JSON of `voxthread bench media`. Raises `BenchError`, `SpeechError`."""
    tell("speaking ...")
    return await measure(load, await spoken_tracks(voice, models_dir), tell=tell)


async def measure(
    load: Load, tracks: Tracks, *, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The same, of calls that say this. Raises `BenchError`."""
    before = load_average()
    result = {
        "sessions": load.sessions,
        "seconds": load.seconds,
        "bus": load.bus_url.partition(":")[0],
        "line": msgspec.to_builtins(load.conditions),
        **await _measure_stack("voxthread", load, tracks, tell),
        "wer_increase_points": None,
        "compare": {},
    }
    if load.churned_sessions:
        result["churn"] = await _churn(load, tracks, tell)
    if load.compares_aiortc:
        result["compare"] = {"stack": "aiortc", **await _measure_stack("aiortc", load, tracks, tell)}
    return {**result, "machine": machine(), "load": {"before": before, "after": load_average()}}


@dataclass(frozen=True, slots=True)
class _Stage:
    """The processes of one measurement."""

    scratch: Path
    server: Worker
    callers: Worker
    owner: Worker | None

    async def usage(self) -> Usage:
        return msgspec.convert(await self.server.ask("usage"), Usage)

    async def heard(self) -> Heard:
        file = str(self.scratch / "heard")
        await (self.owner or self.server).ask("heard", file=file)
        return await run_sync(read_file, file, Heard)

    async def measured(self, seconds: float) -> Measured:
        file = str(self.scratch / "measured")
        await self.callers.ask("measure", seconds=seconds, file=file)
        return await run_sync(read_file, file, Measured)

    @property
    def places(self) -> dict[str, Any]:
        return {"server": self.server.ready["place"], "callers": self.callers.ready["place"]}


@asynccontextmanager
async def _staged(stack: Stack, load: Load, tracks: Tracks) -> AsyncIterator[_Stage]:
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
        )
        owner = None
        if load.bus_url != "memory" and stack == "voxthread":
            beside = msgspec.structs.replace(plan, core=caller_core, is_realtime=False)
            owner = await opened.enter_async_context(open_worker("owner", beside))
        server = await opened.enter_async_context(open_worker(_SERVERS[stack], plan))
        callers = await opened.enter_async_context(
            open_worker(
                "callers",
                CallerPlan(
                    url=server.ready["url"],
                    tracks_file=tracks_file,
                    conditions=load.conditions,
                    core=caller_core,
                ),
            )
        )
        yield _Stage(scratch, server, callers, owner)


async def _measure_stack(
    stack: Stack, load: Load, tracks: Tracks, tell: Callable[[str], None]
) -> dict[str, Any]:
    async with _staged(stack, load, tracks) as stage:
        tell(f"{stack}: opening {load.sessions} calls ...")
        opened = await stage.callers.ask("open", calls=1)
        await stage.callers.ask("measure", seconds=_WARM_S)
        with_one = await stage.usage()
        opened_more = await stage.callers.ask("open", calls=load.sessions - 1)
        await stage.callers.ask("measure", seconds=_WARM_S)
        before = await stage.usage()
        tell(f"{stack}: {load.sessions} calls for {load.seconds:g} s ...")
        measured = await stage.measured(load.seconds)
        after = await stage.usage()
        await stage.callers.ask("close")
        heard = await stage.heard()
        places = stage.places
    setups_ms = [us / 1000 for us in (opened["media_after_us"] + opened_more["media_after_us"])]
    invalid = figures.invalid_because(measured)
    return {
        "valid": not invalid,
        "invalid_because": invalid,
        **figures.cost(before, after, load.sessions),
        **figures.lateness(measured),
        "client_late_p99_ms": figures.client_late_p99_ms(measured),
        "added_delay_ms": figures.spread(figures.added_delays_ms(measured, heard, tracks)),
        **recovery_json(await run_sync(recovery_of, measured, heard, tracks), measured.calls),
        "rss_mb": round(before.rss_bytes / 1e6, 1),
        "rss_mb_per_session": _per_extra_session_mb(with_one, before, load.sessions),
        "post_to_media_ms": figures.spread(setups_ms),
        "places": places,
    }


def _per_extra_session_mb(with_one: Usage, with_all: Usage, sessions: int) -> float | None:
    if sessions < 2:
        return None
    return round((with_all.rss_bytes - with_one.rss_bytes) / (sessions - 1) / 1e6, 3)


async def _churn(load: Load, tracks: Tracks, tell: Callable[[str], None]) -> dict[str, Any]:
    """What stays behind of sessions that were opened and closed, after the first of them have warmed it up."""
    total = load.churned_sessions
    first = max(1, round(total * _CHURN_FIRST / CHURNED_AT_ONCE)) * CHURNED_AT_ONCE
    usages: list[Usage] = []
    async with _staged("voxthread", load, tracks) as stage:
        for upto in (CHURNED_AT_ONCE, first, total):
            done = 0 if not usages else (CHURNED_AT_ONCE, first)[len(usages) - 1]
            tell(f"opening and closing sessions: {done} of {total} ...")
            if upto > done:
                await stage.callers.ask("churn", calls=upto - done, at_once=CHURNED_AT_ONCE)
            await stage.callers.ask("measure", seconds=_WARM_S)
            usages.append(await stage.usage())
    warm, middle, end = usages
    rss_mb = {after: round(usage.rss_bytes / 1e6, 1) for after, usage in ((first, middle), (total, end))}
    return {
        "sessions": total,
        "at_once": CHURNED_AT_ONCE,
        "leaked": {name: getattr(end, name) - getattr(warm, name) for name in ("sockets", "tasks", "threads")},
        "rss_mb_after": rss_mb,
        "rss_growth": round(end.rss_bytes / middle.rss_bytes - 1, 4) if middle.rss_bytes else None,
    }
