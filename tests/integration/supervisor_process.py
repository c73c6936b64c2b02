"""A supervisor on a sqlite bus: `supervisor_process.py DIRECTORY SETTINGS`, its log on standard error.

SETTINGS is JSON: {"roles": {NAME: [MANNER, STOP_ORDER]}, "restarts": {...}, "stop_patience_s": ...}.
"""

import json
import sys
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio

from voxthread.bus.sqlite import SqliteBus
from voxthread.core.failures import VoiceError
from voxthread.observability.logs import configure_logging
from voxthread.supervisor.process import RoleSpec
from voxthread.supervisor.restarts import RestartPolicy
from voxthread.supervisor.supervisor import Supervisor, death_notices

ROLE = Path(__file__).with_name("supervised_role.py")


async def main(directory: Path, settings: dict[str, Any]) -> None:
    roles = [
        RoleSpec(
            name=name,
            argv=[sys.executable, "-I", "-S", str(ROLE), name, manner],
            worker_id=lambda name=name: f"{name}-{token_hex(4)}",
            stop_order=stop_order,
        )
        for name, (manner, stop_order) in settings["roles"].items()
    ]
    async with SqliteBus(directory / "log.db") as bus:
        supervisor = Supervisor(
            roles,
            announce=death_notices(bus),
            state_dir=directory / "state",
            restarts=RestartPolicy(**settings["restarts"]),
            stop_patience_s=settings["stop_patience_s"],
        )
        await supervisor.run()


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
