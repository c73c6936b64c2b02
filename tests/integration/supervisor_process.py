"""A supervisor on a sqlite bus: `supervisor_process.py DIRECTORY SETTINGS`, its log on standard error.

SETTINGS is JSON: {"roles": {NAME: [MANNER, STOP_ORDER]}, "restarts": {...}, "stop_patience_s": ...,
"silence_ms": ...}.
"""

import json
import sys
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio

from voxthread.bus.sqlite import SqliteBus
from voxthread.bus.sqlite_file import who_writes
from voxthread.core.failures import VoiceError
from voxthread.observability.logs import configure_logging
from voxthread.supervisor.process import RoleSpec
from voxthread.supervisor.restarts import RestartPolicy
from voxthread.supervisor.supervisor import Supervisor

ROLE = Path(__file__).with_name("supervised_role.py")
BEATING = Path(__file__).with_name("beating_role.py")


def role_argv(log: Path, name: str, manner: str) -> list[str]:
    if manner == "beating":
        return [sys.executable, str(BEATING), str(log), name]
    if manner == "twin":
        name = "twin"  # who does the same as another is told the same
    return [sys.executable, "-I", "-S", str(ROLE), name, manner]


async def main(directory: Path, settings: dict[str, Any]) -> None:
    roles = [
        RoleSpec(
            name=name,
            argv=role_argv(directory / "log.db", name, manner),
            worker_id=lambda name=name: f"{name}-{token_hex(4)}",
            stop_order=stop_order,
        )
        for name, (manner, stop_order) in settings["roles"].items()
    ]
    async with SqliteBus(directory / "log.db") as bus, anyio.create_task_group() as tasks:
        supervisor = Supervisor(
            roles,
            state_dir=directory / "state",
            restarts=RestartPolicy(**settings["restarts"]),
            stop_patience_s=settings["stop_patience_s"],
            silence_ms=settings["silence_ms"],
            blocker=lambda: who_writes(directory / "log.db"),
        )
        tasks.start_soon(supervisor.watch, bus)
        await supervisor.run()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    configure_logging("info")
    status = 0
    try:
        anyio.run(
            partial(main, Path(sys.argv[1]), json.loads(sys.argv[2])), backend_options={"use_uvloop": True}
        )
    except* VoiceError as refused:
        sys.stderr.writelines(f"{error}\n" for error in refused.exceptions)
        status = 1
    sys.exit(status)
