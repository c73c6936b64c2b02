"""Striking the process that a call depends on, and making good what does not come back by itself."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from voxthread.chaos.failures import ChaosError
from voxthread.chaos.outcome import Blow
from voxthread.chaos.plan import How, Target
from voxthread.chaos.processes import kill
from voxthread.chaos.server import ChaosServer
from voxthread.observability.clock import now_us
from voxthread.supervisor.state_dir import RoleRecord

STOPPED_S: Final = 5
BROKER_DOWN_S: Final = 6
"""Until it is started again, which takes it four more on a quiet machine: away for ten."""
_LOOK_S: Final = 0.01
_OWNED_S: Final = 5


class Brokers(Protocol):
    """The brokers of the bus, as something that can be struck."""

    async def count(self) -> int: ...

    async def kill_leader(self, partition: int) -> int:
        """SIGKILL the leader of this partition of the calls' streams, and return its pid."""
        ...

    async def restore(self) -> None:
        """Start again what was killed; returns when all brokers answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    adopted: bool | None = None
    """Whether a new supervisor found all roles as they were, and left them so."""
    back_at_us: int | None = None
    """When the brokers answered again."""


class Blows:
    """Strikes at one server."""

    def __init__(self, server: ChaosServer, brokers: Brokers | None) -> None:
        self._server = server
        self._brokers = brokers
        self._stopped: list[int] = []

    async def strike(self, target: Target, how: How, session_id: str) -> Blow:
        """Raises `ChaosError` if there is nobody to strike."""
        try:
            match target:
                case Target.ORCHESTRATOR:
                    return await self._strike_owner(how, session_id)
                case Target.MEDIA:
                    role = await self._role(self._server.attendance.host_of, session_id)
                    return _killed(role.name, role.pid)
                case Target.SERVE:
                    return _killed("serve", self._server.supervisor_pid)
                case Target.BROKER:
                    return await self._kill_broker(session_id)
        except ProcessLookupError:
            raise ChaosError("chaos.nobody", f"there is no {target.value} process to strike") from None

    async def mend(self, target: Target, how: How) -> Mended:
        """Bring back what nobody else does; a supervisor after the call, which is to do without."""
        if how is How.STOP:
            await anyio.sleep(STOPPED_S)
            self.wake()
        match target:
            case Target.SERVE:
                before = _lives(self._server.roles())
                self._server.supervise()
                await self._server.whole()
                return Mended(adopted=_lives(self._server.roles()) == before)
            case Target.BROKER if self._brokers is not None:
                await anyio.sleep(BROKER_DOWN_S)
                await self._brokers.restore()
                return Mended(back_at_us=now_us())
        return Mended()

    def wake(self) -> None:
        """SIGCONT to whatever is stopped."""
        for pid in self._stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        self._stopped.clear()

    async def _strike_owner(self, how: How, session_id: str) -> Blow:
        role = await self._role(self._server.attendance.owner_of, session_id)
        if how is How.KILL:
            return _killed(role.name, role.pid)
        at_us = now_us()
        self._stopped = [self._server.supervisor_pid, role.pid]
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)
        return Blow(role=role.name, pid=role.pid, at_us=at_us)

    async def _role(self, who: Callable[[str], str | None], session_id: str) -> RoleRecord:
        """There is none for an instant while a partition moves."""
        with anyio.move_on_after(_OWNED_S):
            while True:
                worker_id = who(session_id)
                role = None if worker_id is None else self._server.role_of(worker_id)
                if role is not None:
                    return role
                await anyio.sleep(_LOOK_S)
        raise ChaosError("chaos.nobody", f"no process on record serves {session_id}")

    async def _kill_broker(self, session_id: str) -> Blow:
        if self._brokers is None:
            raise ChaosError("chaos.no_brokers", "there are no brokers to strike: name them, --bus kafka://...")
        partition = self._server.attendance.partition_of(session_id)
        if partition is None:
            raise ChaosError("chaos.nobody", f"nobody knows {session_id}")
        at_us = now_us()
        return Blow(role="broker", pid=await self._brokers.kill_leader(partition), at_us=at_us)


def _killed(role: str, pid: int) -> Blow:
    at_us = now_us()
    kill(pid)
    return Blow(role=role, pid=pid, at_us=at_us)


def _lives(roles: dict[str, RoleRecord]) -> set[tuple[str, int]]:
    return {(role.worker_id, role.pid) for role in roles.values()}
