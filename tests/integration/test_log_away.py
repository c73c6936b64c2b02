"""A media process whose broker is down when it starts, comes, and goes again: it always answers and says so."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import httpx
import pytest

from kafka.brokers import Cluster, free_ports

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(120)]

OFFER = {"Content-Type": "application/sdp"}


@asynccontextmanager
async def media_process(bus: str, state_dir: Path) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "voxthread", "media", "--port", str(port), "--bus", bus]
    environment = {**os.environ, "VOXTHREAD_STATE_DIR": str(state_dir)}
    lines: list[str] = []

    async def listen() -> None:
        assert process.stderr is not None
        unfinished = b""
        async for chunk in process.stderr:
            *whole, unfinished = (unfinished + chunk).split(b"\n")
            lines.extend(line.decode() for line in whole)

    async with (
        await anyio.open_process(command, env=environment) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listen)
        yield http, lines
        process.send_signal(signal.SIGTERM)
        await process.wait()
        tasks.cancel_scope.cancel()


async def reasons_when(http: httpx.AsyncClient, is_so: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Why the process is not ready, as soon as that is so."""
    while True:
        try:
            answer = await http.get("/readyz")
            if is_so(answer.json().get("reasons", {})):
                assert answer.status_code == 503
                reasons: dict[str, str] = answer.json()["reasons"]
                return reasons
        except httpx.TransportError:
            pass
        await anyio.sleep(0.1)


async def test_a_log_that_is_away_is_told_and_calls_are_refused_until_it_is_back(
    tmp_path: Path, start_kafka: Callable[[int, Path], AbstractContextManager[Cluster]]
) -> None:
    with start_kafka(1, tmp_path / "kafka") as cluster:
        (broker,) = cluster.brokers
        await anyio.to_thread.run_sync(broker.kill)
        async with media_process(f"kafka://{cluster.bootstrap}", tmp_path) as (http, lines):
            reasons = await reasons_when(http, lambda reasons: "bus.unreachable" in reasons.get("log", ""))
            assert reasons["log"].startswith("bus.unreachable: ")
            assert (await http.get("/healthz")).status_code == 200
            await expect_refusal(http)
            broker.start()
            await reasons_when(http, lambda reasons: reasons.keys() == {"orchestrators"})
            told = [datetime.fromisoformat(json.loads(line)["at"]) for line in lines if '"log.waiting"' in line]
            assert told
            assert all(later - earlier > timedelta(seconds=4) for earlier, later in pairwise(told))

            broker.signal(signal.SIGSTOP)
            await reasons_when(http, lambda reasons: "bus.unreachable" in reasons.get("log", ""))
            await expect_refusal(http)
            broker.signal(signal.SIGCONT)
            await reasons_when(http, lambda reasons: reasons.keys() == {"orchestrators"})


async def expect_refusal(http: httpx.AsyncClient) -> None:
    refusal = await http.post("/whip", content="v=0", headers=OFFER)
    assert (refusal.status_code, refusal.json()["code"]) == (503, "bus.unreachable")
    assert int(refusal.headers["retry-after"]) > 0
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.headers["access-control-allow-origin"] == "*"
