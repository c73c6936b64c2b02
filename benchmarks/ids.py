"""How fast sessions get their ids, and what they cost: `python benchmarks/ids.py [--out FILE]`.

Prints one JSON object and exits 1 if a target is missed. A registration is a whole session: a frontend id
and a media id minted, validated, claimed and resolved in both directions. `fold` does it with the pure table
alone; `registry` goes through the log in memory: the claim is encoded, appended, read back, decoded and
folded. Logging is at the level warning. Rates are per second of CPU time of the one thread that does it all, so
that what else runs on the machine counts for little; the load is in the result.
"""

import argparse
import gc
import json
import random
import statistics
import sys
import time
from pathlib import Path

import anyio
import psutil

from voxthread.bus.memory import MemoryBus
from voxthread.client.bench import load_average, machine
from voxthread.core.ids import refusal
from voxthread.observability.logs import configure_logging
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SessionRegistry
from voxthread.sessions.table import SessionTable
from voxthread.wire.claims import SessionClaim

ROUNDS = 7
ROUND_SESSIONS = 20_000
CALLERS = 16
LIVE_SESSIONS = 100_000
LOOKUPS = 100_000
TARGETS = {"registrations_per_cpu_s": 30_000, "live_sessions_mb": 150, "lookup_median_us": 5}

Names = list[tuple[str, str]]


def fold_rate(mint: SessionIdMint) -> float:
    table = SessionTable()
    started = time.process_time()
    for position in range(ROUND_SESSIONS):
        frontend_session_id = mint.frontend_session_id()
        assert refusal(frontend_session_id) is None
        claim = SessionClaim(
            session_id=mint.media_session_id(),
            principal="caller",
            agent="hotel",
            partition=0,
            token_sha256=position.to_bytes(32, "big"),
            frontend_session_id=frontend_session_id,
            at_ms=position,
        )
        assert table.apply(position, claim) is None
        assert table.media_id("caller", frontend_session_id) == claim.session_id
        assert table.frontend_id(claim.session_id) == frontend_session_id
    return ROUND_SESSIONS / (time.process_time() - started)


async def registry_rate(mint: SessionIdMint, callers: int) -> float:
    async with anyio.create_task_group() as tasks:
        registry = SessionRegistry(MemoryBus(), mint=mint, invalid_ids=InvalidIds())
        await tasks.start(registry.run)
        started = time.process_time()
        async with anyio.create_task_group() as calls:
            for caller in range(callers):
                calls.start_soon(_register, registry, mint, range(caller, ROUND_SESSIONS, callers), [])
        cpu_s = time.process_time() - started
        tasks.cancel_scope.cancel()
    assert len(registry) == ROUND_SESSIONS
    return ROUND_SESSIONS / cpu_s


async def live_sessions(mint: SessionIdMint) -> dict[str, float]:
    """Growth of resident memory with the names kept for the lookups, and the lookups themselves."""
    gc.collect()
    before_bytes = psutil.Process().memory_info().rss
    async with anyio.create_task_group() as tasks:
        registry = SessionRegistry(MemoryBus(), mint=mint, invalid_ids=InvalidIds())
        await tasks.start(registry.run)
        names: Names = []
        await _register(registry, mint, range(LIVE_SESSIONS), names)
        gc.collect()
        grown_bytes = psutil.Process().memory_info().rss - before_bytes
        timings_us = _lookup_timings_us(registry, random.sample(names, LOOKUPS // 2))
        tasks.cancel_scope.cancel()
    assert len(registry) == LIVE_SESSIONS
    return {
        "sessions": LIVE_SESSIONS,
        "memory_mb": round(grown_bytes / 2**20, 1),
        "lookup_median_us": round(statistics.median(timings_us), 2),
        "lookup_p99_us": round(statistics.quantiles(timings_us, n=100)[98], 2),
    }


async def _register(registry: SessionRegistry, mint: SessionIdMint, numbers: range, names: Names) -> None:
    for number in numbers:
        frontend_session_id = mint.frontend_session_id()
        session, _ = await registry.get_or_create_session(
            frontend_session_id,
            principal="caller",
            agent="hotel",
            partition=0,
            token_sha256=number.to_bytes(32, "big"),
            component="whip",
        )
        assert registry.media_id_for("caller", frontend_session_id) == session.session_id
        assert registry.frontend_id_for(session.session_id) == frontend_session_id
        names.append((session.session_id, frontend_session_id))


def _lookup_timings_us(registry: SessionRegistry, names: Names) -> list[float]:
    timings_us: list[float] = []
    for session_id, frontend_session_id in names:
        started_ns = time.perf_counter_ns()
        registry.media_id_for("caller", frontend_session_id)
        between_ns = time.perf_counter_ns()
        registry.frontend_id_for(session_id)
        ended_ns = time.perf_counter_ns()
        timings_us += [(between_ns - started_ns) / 1_000, (ended_ns - between_ns) / 1_000]
    return timings_us


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path)
    out: Path | None = options.parse_args().out
    configure_logging("warning", for_good=True)  # as a server does
    mint = SessionIdMint()
    live = anyio.run(live_sessions, mint, backend_options={"use_uvloop": True})
    rates = {
        "fold": [fold_rate(mint) for _ in range(ROUNDS)],
        "registry_one_caller": [
            anyio.run(registry_rate, mint, 1, backend_options={"use_uvloop": True}) for _ in range(ROUNDS)
        ],
        f"registry_{CALLERS}_callers": [
            anyio.run(registry_rate, mint, CALLERS, backend_options={"use_uvloop": True}) for _ in range(ROUNDS)
        ],
    }
    medians = {name: round(statistics.median(found)) for name, found in rates.items()}
    met = {
        "registrations_per_cpu_s": min(medians.values()) >= TARGETS["registrations_per_cpu_s"],
        "live_sessions_mb": live["memory_mb"] <= TARGETS["live_sessions_mb"],
        "lookup_median_us": live["lookup_median_us"] <= TARGETS["lookup_median_us"],
    }
    result = {
        "command": "python benchmarks/ids.py",
        "registrations_per_cpu_s": medians,
        "registrations_per_cpu_s_all": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "live": live,
        "targets": TARGETS,
        "met": met,
        "machine": machine(),
        "load": load_average(),
    }
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text)
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
