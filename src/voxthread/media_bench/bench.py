"""`voxthread bench media`: one load on one server, or on two in turn, as figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from anyio.to_thread import run_sync

from voxthread.client.bench import load_average, machine
from voxthread.client.speech import VoiceName
from voxthread.engines.models import verify
from voxthread.media_bench import figures
from voxthread.media_bench.plan import Tracks, Usage
from voxthread.media_bench.recovery import listen_to_all, recovery_json, recovery_of
from voxthread.media_bench.stage import CHURNED_AT_ONCE, Load, Stack, staged
from voxthread.media_bench.tracks import spoken_tracks
from voxthread.media_bench.wer import measure_words, prepare_words
from voxthread.media_bench.workers import Worker

Tell = Callable[[str], None]

_WARM_S: Final = 2.0
_CHURN_FIRST: Final = 0.3
"""Memory after this share of the sessions is compared with that after all."""


async def run_media_bench(
    load: Load, *, voice: VoiceName, models_dir: Path, tell: Tell = lambda line: None
) -> dict[str, Any]:
    """The JSON of `voxthread bench media`. Raises `BenchError`, `SpeechError`, `ModelFileError`."""
    tell("speaking ...")
    result = await measure(load, await spoken_tracks(voice, models_dir), tell=tell)
    if load.wer_seeds:
        files = await run_sync(verify, models_dir)
        words = await measure_words(load, await prepare_words(files, tell), files, tell)
        result |= {"wer": words["voxthread"], "wer_increase_points": words["voxthread"]["increase_points"]}
        if load.compares_aiortc:
            result["compare"] |= {
                "wer": words["aiortc"],
                "wer_increase_points": words["aiortc"]["increase_points"],
            }
    return result


async def measure(load: Load, tracks: Tracks, *, tell: Tell = lambda line: None) -> dict[str, Any]:
    """The same of calls that say this, but for their words. Raises `BenchError`."""
    before = load_average()
    result = {
        "sessions": load.sessions,
        "seconds": load.seconds,
        "bus": load.bus_url.partition(":")[0],
        "line": msgspec.to_builtins(load.conditions),
        **await measure_stack("voxthread", load, tracks, tell=tell),
        "wer_increase_points": None,
        "compare": {},
    }
    if load.churned_sessions:
        result["churn"] = await _churn(load, tracks, tell)
    if load.compares_aiortc:
        result["compare"] = {"stack": "aiortc", **await measure_stack("aiortc", load, tracks, tell=tell)}
    return {**result, "machine": machine(), "load": {"before": before, "after": load_average()}}


async def measure_stack(
    stack: Stack, load: Load, tracks: Tracks, *, tell: Tell = lambda line: None
) -> dict[str, Any]:
    """Of one server. Raises `BenchError`."""
    async with staged(stack, load, tracks) as stage:
        tell(f"{stack}: opening {load.sessions} calls ...")
        setups_ms = await stage.open(1)
        await stage.warm(_WARM_S)
        with_one = await stage.usage()
        setups_ms += await stage.open(load.sessions - 1)
        async with stage.rubbish(load.rubbish_per_s) as stranger:
            await stage.warm(_WARM_S)
            before, rubbish = await stage.usage(), await _sent(stranger)
            tell(f"{stack}: {load.sessions} calls for {load.seconds:g} s ...")
            measured = await stage.measured(load.seconds)
            after, rubbish = await stage.usage(), await _sent(stranger) - rubbish
        await stage.callers.ask("close")
        heard, places = await stage.heard(), stage.places
    invalid = figures.invalid_because(measured)
    listened = await run_sync(listen_to_all, measured, heard, tracks)
    return {
        "valid": not invalid,
        "invalid_because": invalid,
        **figures.cost(before, after, load.sessions),
        **figures.lateness(measured),
        "client_late_p99_ms": figures.client_late_p99_ms(measured),
        "added_delay_ms": figures.spread(figures.added_delays_ms(measured, heard, tracks)),
        **recovery_json(await run_sync(recovery_of, measured, listened, tracks), measured.calls),
        "rss_mb": round(before.rss_bytes / 1e6, 1),
        "rss_mb_per_session": _per_extra_session_mb(with_one, before, load.sessions),
        "post_to_media_ms": figures.spread(setups_ms),
        "places": places,
        **({"rubbish_per_s": round(rubbish / load.seconds)} if load.rubbish_per_s else {}),
    }


async def _sent(stranger: Worker | None) -> int:
    return 0 if stranger is None else int((await stranger.ask("sent"))["sent"])


async def measure_lateness(
    stack: Stack, load: Load, tracks: Tracks, *, tell: Tell = lambda line: None
) -> dict[str, Any]:
    """Of one server, how late and how busy it is, and nothing else: what callers say is not kept. Quicker.

    Raises `BenchError`.
    """
    async with staged(stack, load, tracks, keeps_heard=False) as stage:
        tell(f"{stack}: {load.sessions} calls for {load.seconds:g} s ...")
        await stage.open(load.sessions)
        await stage.warm(_WARM_S)
        before = await stage.usage()
        measured = await stage.measured(load.seconds)
        after = await stage.usage()
    invalid = figures.invalid_because(measured)
    return {
        "valid": not invalid,
        "invalid_because": invalid,
        **figures.cost(before, after, load.sessions),
        **figures.lateness(measured),
        "client_late_p99_ms": figures.client_late_p99_ms(measured),
    }


def _per_extra_session_mb(with_one: Usage, with_all: Usage, sessions: int) -> float | None:
    if sessions < 2:
        return None
    return round((with_all.rss_bytes - with_one.rss_bytes) / (sessions - 1) / 1e6, 3)


async def _churn(load: Load, tracks: Tracks, tell: Tell) -> dict[str, Any]:
    """What stays behind of sessions that were opened and closed, after the first of them have warmed it up."""
    total = load.churned_sessions
    first = max(1, round(total * _CHURN_FIRST / CHURNED_AT_ONCE)) * CHURNED_AT_ONCE
    usages: list[Usage] = []
    done = 0
    async with staged("voxthread", load, tracks, keeps_heard=False) as stage:
        for upto in (CHURNED_AT_ONCE, first, total):
            tell(f"opening and closing sessions: {done} of {total} ...")
            await stage.callers.ask("churn", calls=upto - done, at_once=CHURNED_AT_ONCE)
            await stage.warm(_WARM_S)
            usages.append(await stage.usage())
            done = upto
    warm, middle, end = usages
    rss_mb = {after: round(usage.rss_bytes / 1e6, 1) for after, usage in ((first, middle), (total, end))}
    return {
        "sessions": total,
        "at_once": CHURNED_AT_ONCE,
        "leaked": {name: getattr(end, name) - getattr(warm, name) for name in ("sockets", "tasks", "threads")},
        "rss_mb_after": rss_mb,
        "rss_growth": round(end.rss_bytes / middle.rss_bytes - 1, 4) if middle.rss_bytes else None,
    }
