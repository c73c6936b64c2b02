"""A server of its own to be struck: `voxthread serve` in a process, its roles, its log, and its end."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import httpx
from anyio.to_thread import run_sync

from voxthread.bus.open import open_bus
from voxthread.chaos.attendance import Attendance
from voxthread.chaos.failures import ChaosError
from voxthread.chaos.processes import having_environment
from voxthread.config import BusConfig
from voxthread.supervisor.process import find
from voxthread.supervisor.state_dir import RoleRecord, StateDir
from voxthread.wire.log import Bus

_LOOK_S: Final = 0.05
_WHOLE_S: Final = 90
"""For all roles to be ready; models are loaded on a machine that may have other things to do."""
_SETTLED_MS: Final = 600
"""Longer than the pauses in which partitions are given to an orchestrator that came back."""
_STOP_S: Final = 25


class ChaosServer:
    """`scratch` holds its state and its log file, which stay behind."""

    def __init__(self, scratch: Path, bus_url: str, bus: Bus, attendance: Attendance, roles: int) -> None:
        self.bus_url = bus_url
        self.bus = bus
        self.attendance = attendance
        self.log_file = scratch / "server.log"
        self._orchestrators = roles
        self._port = _free_port()
        self._state_dir = scratch / "state"
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def supervisor_pid(self) -> int:
        assert self._supervisor is not None
        return self._supervisor.pid

    def roles(self) -> dict[str, RoleRecord]:
        """Those on record, by name."""
        return StateDir(self._state_dir / f"port-{self._port}").records()

    def role_of(self, worker_id: str) -> RoleRecord | None:
        return next((role for role in self.roles().values() if role.worker_id == worker_id), None)

    def processes(self) -> list[int]:
        """All it has started that live, and what they have started."""
        return having_environment(f"VOXTHREAD_STATE_DIR={self._state_dir}")

    def supervise(self) -> None:
        """Start `voxthread serve`; roles that run are adopted."""
        self.bury_supervisor()
        with self.log_file.open("ab") as log:
            self._supervisor = subprocess.Popen(
                self._command(),
                env={**os.environ, "VOXTHREAD_STATE_DIR": str(self._state_dir)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def bury_supervisor(self) -> None:
        """Of one that was killed."""
        if self._supervisor is not None:
            self._supervisor.wait(timeout=_STOP_S)

    async def whole(self) -> None:
        """Wait until all roles run, are ready, and the calls are shared out. Raises `ChaosError`."""
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            missing: str | None = "everything"
            with anyio.move_on_after(_WHOLE_S):
                while missing is not None:
                    await anyio.sleep(_LOOK_S)
                    missing = await self._missing(http)
        if missing is not None:
            raise ChaosError(
                "chaos.not_ready", f"after {_WHOLE_S} s the server still lacks {missing}; see {self.log_file}"
            )

    async def stop(self) -> list[int]:
        """Ask it to end, and return the processes that are left all the same; then kill those."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.send_signal(signal.SIGCONT)
            self._supervisor.terminate()
            with suppress(subprocess.TimeoutExpired):
                await run_sync(lambda: self._supervisor and self._supervisor.wait(_STOP_S))
        left = self.processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.bury_supervisor()
        return left

    async def _missing(self, http: httpx.AsyncClient) -> str | None:
        if self._supervisor is None or self._supervisor.poll() is not None:
            raise ChaosError("chaos.server_ended", f"`voxthread serve` has ended; see {self.log_file}")
        roles = self.roles().values()
        dead = next((role.name for role in roles if not _is_alive(role)), None)
        if dead is not None:
            return dead
        owners = [role for role in roles if role.name.startswith("orchestrator")]
        if len(owners) < self._orchestrators:
            return "orchestrators"
        unready = next((role.name for role in owners if not self.attendance.is_ready(role.worker_id)), None)
        if unready is not None:
            return f"{unready} to be ready"
        if not self.attendance.has_settled(_SETTLED_MS):
            return "settled owners"
        try:
            answer = await http.get(f"{self.url}/readyz")
        except httpx.HTTPError:
            return "an answer from the media process"
        return None if answer.is_success else answer.text

    def _command(self) -> list[str]:
        options = {"--port": self._port, "--orchestrators": self._orchestrators, "--bus": self.bus_url}
        return [
            *(sys.executable, "-m", "voxthread", "serve"),
            *(str(part) for option in options.items() for part in option),
        ]


@asynccontextmanager
async def open_chaos_server(
    scratch: Path,
    bus_url: str,
    bus_config: BusConfig,
    *,
    orchestrators: int = 2,
) -> AsyncIterator[ChaosServer]:
    """Whole when this enters, and gone with all its processes afterwards. Raises `ChaosError`."""
    async with open_bus(bus_url, bus_config) as bus, anyio.create_task_group() as tasks:
        attendance = Attendance(bus)
        tasks.start_soon(attendance.run)
        server = ChaosServer(scratch, bus_url, bus, attendance, orchestrators)
        try:
            server.supervise()
            await server.whole()
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                await server.stop()
        tasks.cancel_scope.cancel()


def _is_alive(role: RoleRecord) -> bool:
    process = find(role)
    if process is None:
        return False
    process.bury()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
