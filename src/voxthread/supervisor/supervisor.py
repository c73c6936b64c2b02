"""The roles of one machine: started, adopted, watched, restarted, and at the end drained in their order."""

import signal
from collections.abc import AsyncIterator, Callable, Sequence
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
from voxthread.supervisor.state_dir import RoleRecord, StateDir
from voxthread.supervisor.watch import SILENCE_MS, Blocker, Watch
from voxthread.wire.control import encode_control
from voxthread.wire.log import Bus, Stream

log = get_logger(__name__)

_NOTICE_S: Final = 5
"""How long a death notice may take, or wait for a log; later than this all others have found out themselves."""


class Supervisor:
    """Keeps roles running, whose names differ, with a log or without: that is what `watch` is for.

    `stop_patience_s` pass between SIGTERM and SIGKILL, for the roles of each stop order in turn.
    """

    def __init__(
        self,
        roles: Sequence[RoleSpec],
        *,
        state_dir: Path,
        restarts: RestartPolicy | None = None,
        stop_patience_s: float = 8,
        silence_ms: int = SILENCE_MS,
        blocker: Blocker = lambda: None,
        now: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._specs = {spec.name: spec for spec in roles}
        self._bus: Bus
        self._state = StateDir(state_dir)
        self._restarts = restarts or RestartPolicy()
        self._stop_patience_s = stop_patience_s
        self._silence_ms = silence_ms
        self._blocker = blocker
        self._now = now
        self._roles: list[Role] = []
        self._is_watching = anyio.Event()

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

    async def watch(self, bus: Bus) -> None:
        """Until cancelled: say on this log when a life of a role is over, and kill a role that lives but has
        been silent for `silence_ms` or that is the `blocker` of the log.

        Cancel it when `run` has returned, so that the last deaths are told too.
        """
        self._bus = bus
        self._is_watching.set()
        await Watch(
            bus,
            on_silent=lambda worker_id: self._kill(lambda record: record.worker_id == worker_id, "silent"),
            on_blocking=lambda pid: self._kill(lambda record: record.pid == pid, "holds the log"),
            blocker=self._blocker,
            silence_ms=self._silence_ms,
        ).run()

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
                has_stand_in=lambda command: any(role.runs(command) for role in self._roles),
                restarts=self._restarts,
                stop_patience_s=self._stop_patience_s,
                now=self._now,
            )
            self._roles.append(role)
            tasks.start_soon(role.run, records.get(name))

    def _kill(self, is_meant: Callable[[RoleRecord], bool], reason: str) -> None:
        for role in self._roles:
            role.kill_if(is_meant, reason)

    async def _tell_of_death(self, worker_id: str) -> None:
        notice = DeathNotice(worker_id=worker_id, by="supervisor")
        with anyio.move_on_after(_NOTICE_S) as scope:
            await self._is_watching.wait()
            try:
                await self._bus.append(Stream.CONTROL, 0, encode_control(notice))
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
