"""One role, kept running until it is told to stop."""

from collections.abc import Callable
from typing import Final

import anyio
from anyio.to_thread import run_sync

from voxthread.observability.logs import get_logger
from voxthread.supervisor.process import RoleProcess, RoleSpec, find, launch
from voxthread.supervisor.restarts import RestartPolicy, Restarts
from voxthread.supervisor.state_dir import RoleRecord, StateDir

log = get_logger(__name__)

_BEHIND_S: Final = 30


class Role:
    """`spec` is None for one that still runs and is wanted no more.

    `on_death(worker_id)` is called for each life that ends, at once; it must not block. `has_stand_in(command)`
    says whether any process of that command runs.
    """

    def __init__(
        self,
        name: str,
        spec: RoleSpec | None,
        state: StateDir,
        *,
        on_death: Callable[[str], None],
        has_stand_in: Callable[[str], bool],
        restarts: RestartPolicy,
        stop_patience_s: float,
        now: Callable[[], int],
    ) -> None:
        self._name = name
        self._spec = spec
        self._state = state
        self._on_death = on_death
        self._has_stand_in = has_stand_in
        self._restarts = Restarts(restarts)
        self._stop_patience_s = stop_patience_s
        self._now = now
        self._process: RoleProcess | None = None
        self._stop = anyio.Event()
        self._hurry = anyio.Event()
        self._stopped = anyio.Event()

    @property
    def stop_order(self) -> int:
        return self._spec.stop_order if self._spec is not None else 0

    def runs(self, command: str) -> bool:
        """Whether a process of this role runs, and by this command."""
        return self._process is not None and self._process.record.command == command

    async def stop(self) -> None:
        """Ask it to drain; kill it when it has not ended in time. Returns when it has."""
        self._stop.set()
        await self._stopped.wait()

    def kill_if(self, is_meant: Callable[[RoleRecord], bool], reason: str) -> None:
        """Kill the process of the role if it is meant; one that is being stopped has its time."""
        process = self._process
        if process is not None and not self._stop.is_set() and is_meant(process.record):
            self._kill(process, reason)

    def hurry(self) -> None:
        """Wait no longer for the end of a drain, begun or to come."""
        self._hurry.set()

    async def run(self, record: RoleRecord | None) -> None:
        """Go on with the process on record, if it lives and is what is wanted; else begin anew."""
        if record is not None:
            await self._take_over(record)
        elif self._spec is not None and self._spec.behind is not None:
            await self._let_pass(self._spec.behind)
        while self._spec is not None and not self._stop.is_set():
            process = await self._launched(self._spec)
            if process is not None:
                await self._watch(process, self._stop)
            await self._pause()
        self._state.remove(self._name)
        self._stopped.set()

    async def _let_pass(self, others: anyio.Event) -> None:
        """What begins at once is ready sooner when it need not share the machine."""
        async with anyio.create_task_group() as tasks:

            async def stop_waiting() -> None:
                await self._stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(stop_waiting)
            with anyio.move_on_after(_BEHIND_S):
                await others.wait()
            tasks.cancel_scope.cancel()

    async def _take_over(self, record: RoleRecord) -> None:
        process = find(record)
        words = {"role": self._name, "worker_id": record.worker_id, "pid": record.pid}
        if process is None:
            log.warning("role.found_dead", **words)
            self._on_death(record.worker_id)
        elif self._spec is not None and self._spec.command == record.command:
            log.info("role.adopted", **words)
            await self._watch(process, self._stop)
            await self._pause()
        else:
            log.warning("role.unwanted" if self._spec is None else "role.replaced", **words)
            told = anyio.Event()
            told.set()
            await self._watch(process, told)

    async def _launched(self, spec: RoleSpec) -> RoleProcess | None:
        try:
            process = await run_sync(launch, spec, self._state)
        except OSError as error:
            log.error("role.cannot_start", role=self._name, detail=str(error))
            return None
        record = process.record
        log.info("role.started", role=self._name, worker_id=record.worker_id, pid=record.pid)
        return process

    async def _watch(self, process: RoleProcess, stop: anyio.Event) -> None:
        """To its end, which comes when `stop` is set or earlier."""
        self._process = process
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when, stop, process)
            await process.ended()
            tasks.cancel_scope.cancel()
        self._process = None
        record = process.record
        self._on_death(record.worker_id)
        status = process.bury()
        say = log.info if stop.is_set() else log.warning
        say("role.ended", role=self._name, worker_id=record.worker_id, pid=record.pid, status=status)

    async def _end_when(self, stop: anyio.Event, process: RoleProcess) -> None:
        await stop.wait()
        process.terminate()
        with anyio.move_on_after(self._stop_patience_s):
            await self._hurry.wait()
        self._kill(process, "still running")

    def _kill(self, process: RoleProcess, reason: str) -> None:
        log.warning("role.killed", role=self._name, worker_id=process.record.worker_id, reason=reason)
        process.kill()

    async def _pause(self) -> None:
        if self._stop.is_set():
            return
        has_stand_in = self._spec is not None and self._has_stand_in(self._spec.command)
        restart = self._restarts.handle_death(self._now(), has_stand_in=has_stand_in)
        if restart.is_failing:
            log.error("role.failing", role=self._name, retry_in_ms=restart.delay_ms)
        with anyio.move_on_after(restart.delay_ms / 1000):
            await self._stop.wait()
