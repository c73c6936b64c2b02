"""A supervisor in a process of its own and its roles: killed, stopped, left behind, adopted, replaced."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from voxthread.bus.memory import MemoryBus
from voxthread.bus.sqlite import SqliteBus
from voxthread.core.workers import DeathNotice, Heartbeat
from voxthread.observability.clock import now_ms
from voxthread.supervisor.process import RoleProcess, RoleSpec, find, identity_of, launch
from voxthread.supervisor.restarts import RestartPolicy
from voxthread.supervisor.state_dir import RoleRecord, StateDir, SupervisorError
from voxthread.supervisor.supervisor import Supervisor
from voxthread.wire.control import decode_control
from voxthread.wire.log import Bus, Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SCRIPT = Path(__file__).with_name("supervisor_process.py")
PATIENCE_S = 20
PAIR = {"media": ["plain", 0], "orchestrator-1": ["plain", 1]}
BEATING_PAIR = {"media": ["beating", 0], "orchestrator-1": ["beating", 1]}
RESTLESS = {"first_ms": 0, "failing_deaths": 1_000}

Line = dict[str, Any]


class Supervised:
    """A supervisor in a process of its own. What its roles say comes out with what it logs."""

    def __init__(self, process: Process, site: "Site") -> None:
        self.process = process
        self._site = site

    async def listen(self) -> None:
        assert self.process.stderr is not None
        lines = BufferedByteReceiveStream(self.process.stderr)
        with suppress(anyio.IncompleteRead):
            while True:
                line = (await lines.receive_until(b"\n", 10_000)).decode()
                self._site.hear(json.loads(line) if line.startswith("{") else {"event": line.rstrip()})

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        self.process.terminate()
        return await self.process.wait()


class Site:
    """One directory, whoever supervises there, and what all have said."""

    def __init__(self, directory: Path, tasks: TaskGroup) -> None:
        self.directory = directory
        self.lines: list[Line] = []
        self._supervisors: list[Process] = []
        self._tasks = tasks
        self._heard = anyio.Event()

    async def supervise(
        self,
        roles: dict[str, list[Any]] = PAIR,
        stop_patience_s: float = 10,
        silence_ms: int = 60_000,
        **restarts: int,
    ) -> Supervised:
        settings = {
            "roles": roles,
            "restarts": restarts,
            "stop_patience_s": stop_patience_s,
            "silence_ms": silence_ms,
        }
        command = [sys.executable, str(SCRIPT), str(self.directory), json.dumps(settings)]
        process = await anyio.open_process(command)
        self._supervisors.append(process)
        supervised = Supervised(process, self)
        self._tasks.start_soon(supervised.listen)
        return supervised

    def hear(self, line: Line) -> None:
        self.lines.append(line)
        self._heard.set()

    async def said(self, event: str, count: int = 1, **fields: object) -> list[Line]:
        """Wait for so many lines of this event with these fields."""
        while True:
            found = [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]
            if len(found) >= count:
                return found
            self._heard = anyio.Event()
            await self._heard.wait()

    @property
    def state(self) -> list[str]:
        return sorted(file.name for file in (self.directory / "state").iterdir())

    async def clear(self) -> None:
        for process in self._supervisors:
            if process.returncode is None:
                process.kill()
            await process.aclose()
        for line in self.lines:
            if line["event"] in ("began", "child") and lives(line["pid"]):
                os.kill(line["pid"], signal.SIGKILL)


@asynccontextmanager
async def opened_site(directory: Path) -> AsyncIterator[Site]:
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            site = Site(directory, tasks)
            try:
                yield site
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await site.clear()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    async with SqliteBus(tmp_path / "log.db") as bus:
        yield bus


async def notice_from(bus: Bus, position: int) -> str:
    """The worker that the supervisor's first death notice from there on is about."""
    async with aclosing(bus.read(Stream.CONTROL, 0, position)) as records:
        async for stored in records:
            match decode_control(stored.record.value):
                case DeathNotice(worker_id=worker_id, by="supervisor"):
                    return worker_id
    raise AssertionError("a log does not end")


async def beats_of(bus: SqliteBus, worker_id: str, count: int) -> None:
    """Wait for so many heartbeats of the worker from now on."""
    async with aclosing(bus.read(Stream.CONTROL, 0, await bus.head(Stream.CONTROL, 0))) as records:
        async for stored in records:
            match decode_control(stored.record.value):
                case Heartbeat(worker_id=beating) if beating == worker_id:
                    count -= 1
            if not count:
                return


async def notice_after(bus: SqliteBus, do: Callable[[], None]) -> tuple[str, int]:
    """Whose death is told of after `do`, and how many milliseconds after."""
    head = await bus.head(Stream.CONTROL, 0)
    done_ms = now_ms()
    do()
    return await notice_from(bus, head), now_ms() - done_ms


def lives(pid: int) -> bool:
    return identity_of(pid) is not None


async def test_a_killed_role_is_announced_at_once_and_restarted_as_another_worker(
    tmp_path: Path, bus: SqliteBus
) -> None:
    delays_ms = []
    async with opened_site(tmp_path) as site:
        await site.supervise(**RESTLESS)
        for life in range(5):
            role = (await site.said("began", life + 1, name="orchestrator-1"))[-1]
            told_of, delay_ms = await notice_after(bus, partial(os.kill, role["pid"], signal.SIGKILL))
            assert told_of == role["worker_id"]
            delays_ms.append(delay_ms)
        roles = await site.said("began", 6, name="orchestrator-1")
        assert len({role["worker_id"] for role in roles}) == 6
        assert len(await site.said("began", name="media")) == 1
    assert sorted(delays_ms)[2] < 100, delays_ms


async def test_roles_run_without_a_log_and_a_death_is_told_once_there_is_one(tmp_path: Path) -> None:
    lives: list[str] = []
    has_died = anyio.Event()

    def next_life() -> str:
        if lives:
            has_died.set()
        lives.append(f"media-{len(lives)}")
        return lives[-1]

    argv = [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"]
    role = RoleSpec(name="media", argv=argv, worker_id=next_life, stop_order=0)
    supervisor = Supervisor([role], state_dir=tmp_path, restarts=RestartPolicy(**RESTLESS))
    bus = MemoryBus()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.run)
            await has_died.wait()
            async with anyio.create_task_group() as watching:
                watching.start_soon(supervisor.watch, bus)
                assert await notice_from(bus, 0) in lives
                watching.cancel_scope.cancel()
            os.kill(os.getpid(), signal.SIGTERM)


async def test_a_role_that_another_stands_in_for_waits_and_one_that_is_alone_does_not(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        twins = {"orchestrator-1": ["twin", 0], "orchestrator-2": ["twin", 0]}
        await site.supervise(twins, **RESTLESS, stand_in_ms=60_000)
        pids = {started["role"]: started["pid"] for started in await site.said("role.started", 2)}
        for role in twins:
            os.kill(pids[role], signal.SIGKILL)
            await site.said("role.ended", role=role)
        await site.said("role.started", 2, role="orchestrator-2")
        assert len(await site.said("role.started", role="orchestrator-1")) == 1


async def test_a_role_that_cannot_live_is_tried_less_and_less_often_and_complained_of(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise({"media": ["broken", 0]})
        (failing,) = await site.said("role.failing")
        assert failing["level"] == "error"
        assert [line["status"] for line in await site.said("role.ended", 5)] == [3] * 5
        assert await supervised.stop() == 0


async def test_a_command_that_does_not_exist_is_a_role_that_cannot_live(tmp_path: Path) -> None:
    spec = RoleSpec(name="media", argv=["/nowhere/voxthread"], worker_id=lambda: "media-1")
    with StateDir(tmp_path) as state:
        process = launch(spec, state)
        await process.ended()
        assert process.bury() == 127


async def test_roles_are_out_of_reach_of_what_ends_their_supervisor(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise()
        pids = [role["pid"] for role in await site.said("began", 2)]
        assert [os.getsid(pid) for pid in pids] == pids
        await supervised.kill()
        assert all(lives(pid) for pid in pids)


async def test_roles_of_a_killed_supervisor_are_adopted_and_kept(tmp_path: Path, bus: SqliteBus) -> None:
    async with opened_site(tmp_path) as site:
        first = await site.supervise()
        before = await site.said("began", 2)
        await first.kill()
        second = await site.supervise()
        adopted = await site.said("role.adopted", 2)
        assert {(line["role"], line["worker_id"], line["pid"]) for line in adopted} == {
            (role["name"], role["worker_id"], role["pid"]) for role in before
        }
        killed = before[0]
        told_of, delay_ms = await notice_after(bus, partial(os.kill, killed["pid"], signal.SIGKILL))
        assert told_of == killed["worker_id"]
        assert delay_ms < 300
        await site.said("began", 2, name=killed["name"])
        assert await second.stop() == 0
        assert site.state == []
        assert not any(lives(role["pid"]) for role in await site.said("began", 3))


async def test_a_role_that_died_while_nobody_watched_is_announced_and_restarted(
    tmp_path: Path, bus: SqliteBus
) -> None:
    async with opened_site(tmp_path) as site:
        first = await site.supervise()
        await site.said("began", 2)
        (dead,) = await site.said("began", name="media")
        await first.kill()
        os.kill(dead["pid"], signal.SIGKILL)
        head = await bus.head(Stream.CONTROL, 0)
        second = await site.supervise()
        await site.said("role.found_dead", role="media", worker_id=dead["worker_id"])
        await site.said("role.adopted", role="orchestrator-1")
        await site.said("began", 2, name="media")
        assert await notice_from(bus, head) == dead["worker_id"]
        assert await second.stop() == 0


async def test_a_second_supervisor_is_refused_in_one_line(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.supervise()
        await site.said("began", 2)
        second = await site.supervise()
        assert await second.process.wait() == 1
        refusal = (
            f"supervisor.already_running: another server supervises the roles in {tmp_path / 'state'}; "
            "stop it or choose another directory"
        )
        await site.said(refusal)
        assert len(await site.said("began", 2)) == 2


async def test_sigterm_ends_the_roles_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        roles = {"orchestrator-1": ["plain", 1], "media": ["plain", 0], "orchestrator-2": ["plain", 1]}
        supervised = await site.supervise(roles)
        pids = [role["pid"] for role in await site.said("began", 3)]
        assert site.state == ["media.json", "orchestrator-1.json", "orchestrator-2.json"]
        assert await supervised.stop() == 0
        names = [role["name"] for role in await site.said("left", 3)]
        assert names[0] == "media"
        assert sorted(names[1:]) == ["orchestrator-1", "orchestrator-2"]
        assert not any(lives(pid) for pid in pids)
        assert site.state == []


async def test_sighup_does_nothing_and_ctrl_c_stops(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise()
        await site.said("began", 2)
        supervised.process.send_signal(signal.SIGHUP)
        supervised.process.send_signal(signal.SIGINT)
        assert await supervised.process.wait() == 0
        assert [line["signal"] for line in await site.said("supervisor.stopping")] == ["SIGINT"]


async def test_a_role_that_does_not_stop_is_killed_in_time_with_what_it_started(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise({"media": ["stubborn", 0]}, stop_patience_s=0.2)
        await site.said("began")
        (child,) = await site.said("child")
        assert await supervised.stop() == 0
        await site.said("role.killed", reason="still running")
        assert not lives(child["pid"])
        assert site.state == []


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise({"media": ["stubborn", 0]}, stop_patience_s=1_000)
        await site.said("began")
        supervised.process.terminate()
        await site.said("supervisor.stopping")
        assert await supervised.stop() == 0


async def test_a_supervisor_stopped_while_a_role_fails_stops(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise({"media": ["broken", 0]}, failing_deaths=1, longest_ms=1_000_000)
        await site.said("role.failing")
        assert await supervised.stop() == 0
        assert site.state == []


async def test_what_is_told_something_else_is_replaced_and_what_is_not_wanted_is_drained(
    tmp_path: Path,
) -> None:
    async with opened_site(tmp_path) as site:
        before = {"media": ["plain", 0], "orchestrator-1": ["plain", 1], "orchestrator-2": ["plain", 1]}
        first = await site.supervise(before)
        await site.said("began", 3)
        await first.kill()
        second = await site.supervise({"media": ["other", 0], "orchestrator-1": ["plain", 1]})
        await site.said("role.replaced", role="media")
        await site.said("role.unwanted", role="orchestrator-2")
        await site.said("role.adopted", role="orchestrator-1")
        assert {role["name"] for role in await site.said("left", 2)} == {"media", "orchestrator-2"}
        await site.said("began", 2, name="media")
        assert site.state == ["media.json", "orchestrator-1.json"]
        assert await second.stop() == 0


async def test_many_deaths_leave_no_descriptor_and_no_zombie(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise({"media": ["plain", 0]}, **RESTLESS)
        descriptors = []
        for life in range(12):
            pid = (await site.said("began", life + 1))[-1]["pid"]
            descriptors.append(psutil.Process(supervised.process.pid).num_fds())
            os.kill(pid, signal.SIGKILL)
        await site.said("began", 13)
        assert len(set(descriptors[1:])) == 1, descriptors
        children = psutil.Process(supervised.process.pid).children(recursive=True)
        assert len(children) == 1
        assert children[0].status() != psutil.STATUS_ZOMBIE
        assert await supervised.stop() == 0


async def test_a_role_that_beat_and_fell_silent_is_killed_and_started_again(
    tmp_path: Path, bus: SqliteBus
) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise(BEATING_PAIR, silence_ms=1_500)
        await site.said("began", 2)
        (role,) = await site.said("began", name="orchestrator-1")
        await beats_of(bus, role["worker_id"], 2)
        stopped_ms = now_ms()
        os.kill(role["pid"], signal.SIGSTOP)
        await site.said("role.killed", role="orchestrator-1", reason="silent", worker_id=role["worker_id"])
        assert now_ms() - stopped_ms < 5_000
        await site.said("began", 2, name="orchestrator-1")
        assert len(await site.said("began", name="media")) == 1
        assert await supervised.stop() == 0


async def test_a_role_stopped_while_it_holds_the_log_blocks_the_others_for_2_s_at_most(
    tmp_path: Path, bus: SqliteBus
) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise(BEATING_PAIR)
        (role,) = await site.said("began", name="orchestrator-1")
        await site.said("began", 2)
        os.kill(role["pid"], signal.SIGUSR1)
        await site.said("role.killed", role="orchestrator-1", reason="holds the log")
        await bus.append(Stream.IN, 0, Record("session_1", b"goes on"))
        await site.said("began", 2, name="orchestrator-1")
        assert len(await site.said("began", name="media")) == 1
        assert await supervised.stop() == 0


async def test_a_supervisor_that_was_stopped_itself_kills_nobody_when_it_goes_on(
    tmp_path: Path, bus: SqliteBus
) -> None:
    async with opened_site(tmp_path) as site:
        supervised = await site.supervise(BEATING_PAIR, silence_ms=1_500)
        for role in await site.said("began", 2):
            await beats_of(bus, role["worker_id"], 2)
        supervised.process.send_signal(signal.SIGSTOP)
        await anyio.sleep(3)
        supervised.process.send_signal(signal.SIGCONT)
        await anyio.sleep(1)
        assert [line for line in site.lines if line["event"] == "role.killed"] == []
        assert await supervised.stop() == 0


# -- in this process ------------------------------------------------------------------------------------------


def sleeper() -> RoleSpec:
    return RoleSpec(name="media", argv=["sleep", "1000"], worker_id=lambda: "media-1")


async def test_a_process_that_only_has_the_pid_on_record_is_not_touched(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        process = launch(sleeper(), state)
        stranger = RoleRecord(
            name="media",
            worker_id="media-1",
            pid=process.record.pid,
            identity="another boot:1",
            command=sleeper().command,
        )
        assert find(stranger) is None
        assert lives(process.record.pid)
        process.kill()
        await process.ended()
        assert find(process.record) is None, "a zombie is not alive"
        assert process.bury() == -signal.SIGKILL


async def test_without_a_pidfd_a_death_is_seen_too(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state, anyio.fail_after(PATIENCE_S):
        launched = launch(sleeper(), state)
        looked_at = RoleProcess(launched.record, launched._child, None)
        looked_at.terminate()
        await looked_at.ended()
        assert looked_at.bury() == -signal.SIGTERM
        await RoleProcess(launched.record, None, None).ended()
        launched.bury()


def test_a_role_that_cannot_be_put_on_record_does_not_begin(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    spec = RoleSpec(name="media", argv=["touch", str(journal)], worker_id=lambda: "media-1")
    with StateDir(tmp_path / "state") as state:
        (tmp_path / "state/media.unfinished").mkdir()
        with pytest.raises(IsADirectoryError):
            launch(spec, state)
    assert not journal.exists()


def test_a_role_does_not_begin_when_its_supervisor_is_killed_before_it_is_on_record(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from voxthread.supervisor.process import RoleSpec, launch
from voxthread.supervisor.state_dir import StateDir

class Killed(StateDir):
    def write(self, record):
        os.kill(os.getpid(), signal.SIGKILL)

with Killed(Path({str(tmp_path / "state")!r})) as state:
    launch(RoleSpec(name="media", argv=["echo", "begun"], worker_id=lambda: "media-1"), state)
"""
    killed = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, check=False, timeout=PATIENCE_S
    )
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout == b"", "which ended only when the new process, too, had"


def test_records_that_cannot_be_read_are_removed(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        (tmp_path / "media.json").write_bytes(b"")
        (tmp_path / "orchestrator-1.json").write_bytes(b'{"name": "orchestrator-1"}')
        assert state.records() == {}
        assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SupervisorError, match=str(tmp_path)), StateDir(tmp_path / "file/state"):
        pass
