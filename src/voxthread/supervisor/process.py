"""A role as a process: in a session of its own, so that nothing that ends its supervisor ends it.

A death is seen through a pidfd, at once, also that of a process which was adopted and is nobody's child. Where
there are none (macOS) one looks every 50 ms.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from voxthread.supervisor.state_dir import RoleRecord, StateDir

WORKER_ID_VARIABLE: Final = "VOXTHREAD_WORKER_ID"
"""Environment variable in which a role finds the id of this life of it."""

_GATE: Final = 'read -r _ && exec "$@" </dev/null'
"""Before it becomes the role, the new process waits until it is on record; should its supervisor die before
that, its input ends and so does it. Nothing ever runs that a next supervisor would not find."""

_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """A role to be kept running.

    `worker_id` makes an id for each of its lives. Roles with a lower `stop_order` have ended before those with
    a higher one are told to. The first life begins `behind` an event, or when some seconds have passed. `env`
    comes on top of the supervisor's own. A process that an earlier supervisor started with another `argv` or
    `env` is replaced, not adopted.
    """

    name: str
    argv: Sequence[str]
    worker_id: Callable[[], str]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_order: int = 0
    behind: anyio.Event | None = None

    @property
    def command(self) -> str:
        told = json.dumps([list(self.argv), sorted(self.env.items())])
        return hashlib.sha256(told.encode()).hexdigest()


class RoleProcess:
    """One life of a role; `bury` it when it has ended."""

    def __init__(self, record: RoleRecord, child: "subprocess.Popen[bytes] | None", pidfd: int | None) -> None:
        self.record = record
        self._child = child
        self._pidfd = pidfd

    async def ended(self) -> None:
        if self._pidfd is not None:
            await anyio.wait_readable(self._pidfd)
            return
        while not self._has_ended():  # noqa: ASYNC110  nothing else tells
            await anyio.sleep(_LOOK_S)

    def _has_ended(self) -> bool:
        if self._child is not None:
            return self._child.poll() is not None
        try:
            os.kill(self.record.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            else:
                os.kill(self.record.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Also what it has started. Only while it has not been buried: its pid may be somebody else's then."""
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
            os.killpg(self.record.pid, signal.SIGKILL)

    def bury(self) -> int | None:
        """Of one that has ended. Returns its exit status, negative for a signal; None if it was adopted."""
        status = None
        if self._child is not None:
            if self._child.returncode is None:  # not reaped: the pid is still its own
                self.kill()  # what it has left behind
            status = self._child.wait()
        if self._pidfd is not None:
            os.close(self._pidfd)
        return status


def launch(spec: RoleSpec, state: StateDir) -> RoleProcess:
    """Start the role, on record before it begins. Blocks for some milliseconds; raises `OSError`."""
    worker_id = spec.worker_id()
    child = subprocess.Popen(
        ["/bin/sh", "-c", _GATE, spec.name, *spec.argv],
        env={**os.environ, **spec.env, WORKER_ID_VARIABLE: worker_id},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    pidfd = None
    try:
        pidfd = _pidfd_of(child.pid)
        record = RoleRecord(
            name=spec.name,
            worker_id=worker_id,
            pid=child.pid,
            identity=identity_of(child.pid) or "",
            command=spec.command,
        )
        state.write(record)
    except OSError:
        child.stdin.close()
        child.wait()
        if pidfd is not None:
            os.close(pidfd)
        raise
    with suppress(BrokenPipeError), child.stdin as gate:  # it may have been killed already
        gate.write(b"\n")
    return RoleProcess(record, child, pidfd)


def find(record: RoleRecord) -> RoleProcess | None:
    """The process on record, None if it has died; another one may have its pid now."""
    try:
        pidfd = _pidfd_of(record.pid)  # first, so that it cannot be of a later process than the identity
    except ProcessLookupError:
        return None
    if identity_of(record.pid) == record.identity:
        return RoleProcess(record, None, pidfd)
    if pidfd is not None:
        os.close(pidfd)
    return None


def identity_of(pid: int) -> str | None:
    """Boot and start of a process; None when there is none, or only its zombie."""
    if sys.platform != "linux":
        return _identity_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *more = stat.rpartition(")")[2].split()  # proc_pid_stat(5): fields 3 and, in ticks since boot, 22
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{more[18]}"


def _identity_by_ps(pid: int) -> str | None:
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = shown.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _pidfd_of(pid: int) -> int | None:
    """None where there are none. Raises `ProcessLookupError`."""
    return os.pidfd_open(pid) if sys.platform == "linux" else None
