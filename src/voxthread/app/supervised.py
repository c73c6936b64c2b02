"""`voxthread serve --orchestrators N`: a media process and N orchestrators, watched and started again."""

import secrets
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
from anyio import to_thread

from voxthread.app.http import url_at
from voxthread.app.process import checked_start
from voxthread.bus.open import open_bus
from voxthread.config import Config
from voxthread.engines.models import verify
from voxthread.observability.logs import get_logger
from voxthread.supervisor.process import RoleSpec
from voxthread.supervisor.supervisor import Supervisor, death_notices

log = get_logger(__name__)

_MEDIA_STOPS, _ORCHESTRATORS_STOP = 0, 1


async def run_supervised(
    config: Config,
    agent_file: Path | None,
    orchestrators: int,
    config_file: Path | None,
    on_started: Callable[[str], None],
) -> None:
    """Host nothing, watch everything, until SIGTERM or SIGINT.

    What would make the roles fail for ever is found first: a port that is taken, a model that is damaged.
    """
    checked_start(config)
    state_dir = config.state_dir / f"port-{config.http.port}"
    state_dir.mkdir(parents=True, exist_ok=True)
    bus_url = config.bus.url if config.bus.url != "memory" else f"sqlite:{state_dir / 'log.db'}"
    await to_thread.run_sync(verify, config.models_dir)
    roles = role_specs(config, agent_file, orchestrators, config_file, bus_url)
    async with open_bus(bus_url, config.bus) as bus:
        supervisor = Supervisor(roles, announce=death_notices(bus), state_dir=state_dir)
        async with anyio.create_task_group() as tasks:
            await tasks.start(supervisor.run)
            on_started(url_at(config.http, config.http.port))


def role_specs(
    config: Config, agent_file: Path | None, orchestrators: int, config_file: Path | None, bus_url: str
) -> list[RoleSpec]:
    """The same options give the same command lines, so that a supervisor finds its roles again."""
    shared = [] if agent_file is None else [str(agent_file.resolve())]
    shared += ["--bus", bus_url]
    if config_file is not None:
        shared += ["--config", str(config_file.resolve())]
    http = config.http
    media = ["--host", http.host, "--port", str(http.port), "--max-sessions", str(config.media.max_sessions)]
    if http.tls_cert is not None and http.tls_key is not None:
        media += ["--tls-cert", str(http.tls_cert.resolve()), "--tls-key", str(http.tls_key.resolve())]
    return [
        RoleSpec(
            name="media",
            argv=_command("media", [*shared, *media]),
            worker_id=_fresh("media"),
            stop_order=_MEDIA_STOPS,
        ),
        *(
            RoleSpec(
                name=f"orchestrator-{number}",
                argv=_command("orchestrator", shared),
                worker_id=_fresh(f"orchestrator_{number}"),
                stop_order=_ORCHESTRATORS_STOP,
            )
            for number in range(1, orchestrators + 1)
        ),
    ]


def _command(role: str, options: Iterable[str]) -> list[str]:
    return [sys.executable, "-m", "voxthread", role, *options]


def _fresh(name: str) -> Callable[[], str]:
    """Each life of a process has an id of its own, so that a notice of death speaks of one life only."""
    return lambda: f"{name}_{secrets.token_hex(4)}"
