"""A spare media process takes the port, and with it the callers, when the one that had it is killed."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import Process

from kafka.brokers import free_ports
from voxthread.bus.sqlite import SqliteBus
from voxthread.wire.log import Stream

pytestmark = pytest.mark.integration


@asynccontextmanager
async def media_process(port: int, log_file: Path, *options: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "voxthread", "media", "--port", str(port), "--bus", f"sqlite:{log_file}"]
    async with await anyio.open_process([*command, *options], stdout=None, stderr=None) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def is_open(port: int) -> None:
    """Wait until a media process at the port lacks nothing but an orchestrator."""
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                answer = await http.get(f"http://127.0.0.1:{port}/readyz")
                if [*answer.json()["reasons"]] == ["orchestrators"]:
                    return
            except httpx.TransportError:
                pass
            await anyio.sleep(0.02)


async def has_tried_the_port(worker_id: str, log_file: Path) -> None:
    """Wait for the first heartbeat of the process, which looks for its port before it opens the log."""
    async with SqliteBus(log_file) as bus, aclosing(bus.read(Stream.CONTROL, 0, 0)) as records:
        async for stored in records:
            if stored.record.key == worker_id:
                return


@pytest.mark.anyio
async def test_media_process_killed_spare_takes_its_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with anyio.fail_after(40):
        async with media_process(port, tmp_path / "log.db") as first:
            await is_open(port)
            options = ("--spare", "--worker-id", "spare_1")
            async with media_process(port, tmp_path / "log.db", *options) as spare:
                await has_tried_the_port("spare_1", tmp_path / "log.db")
                first.kill()
                await first.wait()
                await is_open(port)
                spare.send_signal(signal.SIGTERM)
                assert await spare.wait() == 0
