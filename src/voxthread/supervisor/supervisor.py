"""The roles of one machine: started, adopted, watched, restarted, and at the end drained in their order."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from voxthread.core.failures import VoiceError
from voxthread.core.workers import DeathNotice
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.supervisor.process import RoleSpec
from voxthread.supervisor.restarts import RestartPolicy
from voxthread.supervisor.role import Role
from voxthread.supervisor.state_dir import StateDir
from voxthread.wire.control import encode_control
from voxthread.wire.log import Bus, Stream

log = get_logger(__name__)

_NOTICE_S: Final = 5
"""How long a death notice may take; later than this all others have found out by themselves."""


def death_notices(bus: Bus) -> Callable[[str], Awaitable[None]]:
    """What `Supervisor` announces deaths with."""

    async def announce(worker_id: str) -> None:
        notice = DeathNotice(worker_id=worker_id, by="supervisor")
        await bus.append(Stream.CONTROL, 0, encode_control(notice))

    return announce


class Supervisor:
    """Keeps roles running, whose names differ.

    `announce(worker_id)` says on the log that this life of a role is over; it may fail with a `VoiceError`.
    `stop_patience_s` pass between SIGTERM and SIGKILL, for the roles of each stop order in turn.
    """

    def __init__(
        self,
        roles: Sequence[RoleSpec],
        *,
        announce: Callable[[str], Awaitable[None]],
        state_dir: Path,
        restarts: RestartPolicy | None = None,
        stop_patience_s: float = 8,
        now: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._specs = {spec.name: spec for spec in roles}
        self._announce = announce
        self._state = StateDir(state_dir)
        self._restarts = restarts or RestartPolicy()
        self._stop_patience_s = stop_patience_s
        self._now = now
        self._roles: list[Role] = []

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until SIGTERM or SIGINT; then no role is left, and no record. A second one hurries.

        Cancelled, it leaves the roles running, as when it is killed; SIGHUP does nothing. Has
        started when nobody else can.
        Raises `SupervisorError`: `supervisor.already_running`, `supervisor.no_state_dir`.
        """
        with (
            self._state,
            anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        ):
            task_status.started()
            async with anyio.create_task_group() as notices, anyio.create_task_group() as tasks:
                self._run_roles(tasks, notices)
                await self._stop_on(signals)
        log.info("supervisor.stopped")

    def _run_roles(self, tasks: TaskGroup, notices: TaskGroup) -> None:
        def on_death(worker_id: str) -> None:
            notices.start_soon(self._tell_of_death, worker_id)

        records = self._state.records()
        for name in (*self._specs, *(records.keys() - self._specs.keys())):
            role = Role(
                name,
                self._specs.get(name),
                self._state,
                on_death=on_death,
                restarts=self._restarts,
                stop_patience_s=self._stop_patience_s,
                now=self._now,
            )
            self._roles.append(role)
            tasks.start_soon(role.run, records.get(name))

    async def _tell_of_death(self, worker_id: str) -> None:
        with anyio.move_on_after(_NOTICE_S) as scope:
            try:
                await self._announce(worker_id)
            except VoiceError as error:
                log.warning("worker.death_untold", worker_id=worker_id, code=error.code, detail=error.detail)
        if scope.cancelled_caught:
            log.warning("worker.death_untold", worker_id=worker_id, code="supervisor.notice_timeout")

    async def _stop_on(self, signals: AsyncIterator[signal.Signals]) -> None:
        is_stopping = False
        async with anyio.create_task_group() as tasks:
            async for received in signals:
                if received == signal.SIGHUP:
                    continue
                log.info("supervisor.stopping", signal=received.name)
                if is_stopping:
                    for role in self._roles:
                        role.hurry()
                else:
                    is_stopping = True
                    tasks.start_soon(self._stop_all, tasks.cancel_scope)

    async def _stop_all(self, waiting: anyio.CancelScope) -> None:
        for order in sorted({role.stop_order for role in self._roles}):
            async with anyio.create_task_group() as tasks:
                for role in self._roles:
                    if role.stop_order == order:
                        tasks.start_soon(role.stop)
        waiting.cancel()
