"""A server whose broker is down when it starts, comes, and goes again: it always answers and says so."""

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

from conftest import SkipLoudly
from kafka.brokers import Cluster, free_ports
from spoken import bundled_models

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(120)]

OFFER = {"Content-Type": "application/sdp"}


@asynccontextmanager
async def running(
    command: str, bus: str, state_dir: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    """What it says on standard error, too. It has ended well after the block."""
    (port,) = free_ports(1)
    command_line = [sys.executable, "-m", "voxthread", command, "--port", str(port), "--bus", bus]
    environment = {**os.environ, "VOXTHREAD_STATE_DIR": str(state_dir)}
    lines: list[str] = []

    async def listen() -> None:
        assert process.stderr is not None
        unfinished = b""
        async for chunk in process.stderr:
            *whole, unfinished = (unfinished + chunk).split(b"\n")
            lines.extend(line.decode() for line in whole)

    async with (
        await anyio.open_process(command_line, env=environment) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listen)
        yield http, lines
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
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
        async with running("media", f"kafka://{cluster.bootstrap}", tmp_path) as (http, lines):
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


async def test_a_server_started_while_the_log_is_away_runs_its_roles_and_says_so(
    skip_loudly: SkipLoudly, tmp_path: Path
) -> None:
    bundled_models(skip_loudly)
    (nobody,) = free_ports(1)
    async with running("serve", f"kafka://127.0.0.1:{nobody}", tmp_path) as (http, lines):
        reasons = await reasons_when(http, lambda reasons: "bus.unreachable" in reasons.get("log", ""))
        assert reasons["log"].startswith("bus.unreachable: ")
        assert (await http.get("/healthz")).status_code == 200
        await expect_refusal(http)
        started = [json.loads(line)["role"] for line in lines if '"role.started"' in line]
        assert {"media", "orchestrator-1"} <= {*started}
        assert any('"log.waiting"' in line for line in lines)
    with pytest.raises(httpx.ConnectError):
        await anyio.to_thread.run_sync(httpx.get, str(http.base_url))


async def expect_refusal(http: httpx.AsyncClient) -> None:
    refusal = await http.post("/whip", content="v=0", headers=OFFER)
    assert (refusal.status_code, refusal.json()["code"]) == (503, "bus.unreachable")
    assert int(refusal.headers["retry-after"]) > 0
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.headers["access-control-allow-origin"] == "*"
