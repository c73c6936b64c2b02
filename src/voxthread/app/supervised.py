"""`voxthread serve`: a media process and N orchestrators, watched and started again."""

import secrets
import ssl
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import anyio
from anyio import to_thread

from voxthread.agent import load_agent
from voxthread.app.http import ListenError, bind, url_at
from voxthread.app.process import checked_start
from voxthread.app.shared_bus import open_shared_bus
from voxthread.bus.open import sqlite_file
from voxthread.bus.sqlite_file import who_writes
from voxthread.config import Config
from voxthread.engines.models import verify
from voxthread.observability.logs import get_logger
from voxthread.supervisor.process import RoleSpec
from voxthread.supervisor.state_dir import has_record
from voxthread.supervisor.supervisor import Supervisor

log = get_logger(__name__)

_MEDIA: Final = "media"
_SPARE_MEDIA: Final = "media-spare"
"""Whichever of the two has the port serves, the other is ready to."""

_MEDIA_STOPS, _ORCHESTRATORS_STOP = 0, 1
_ASK_AGAIN_S = 0.1
_FIRST_TRY_S: Final = 10
"""How long roles wait for the first word of the log; brokers that are away are known to be after five."""


async def run_supervised(
    config: Config,
    agent_file: Path | None,
    orchestrators: int,
    config_file: Path | None,
    on_ready: Callable[[str], None],
) -> None:
    """Host nothing, watch everything, until SIGTERM or SIGINT. `on_ready` is told the URL when calls are taken.

    What would make the roles fail for ever is found first: a port that is taken, a model that is damaged, an
    agent file that is none, a log that refuses. A log that is away is waited for while the roles run, which
    wait for it too; should it refuse only then, this ends and the roles do, each by itself.
    """
    checked_start(config)
    if agent_file is not None:
        load_agent(agent_file)
    await to_thread.run_sync(verify, config.models_dir)
    config = with_port(config)
    config.site_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_ready = anyio.Event()
    roles = role_specs(config, agent_file, orchestrators, config_file, is_ready)
    url = url_at(config.http, config.http.port)
    supervisor = Supervisor(roles, state_dir=config.site_dir, blocker=_blocker(config))
    async with anyio.create_task_group() as tasks:
        is_tried = anyio.Event()
        tasks.start_soon(_watch_the_log, supervisor, config, is_tried)
        with anyio.move_on_after(_FIRST_TRY_S):
            await is_tried.wait()
        tasks.start_soon(_tell_when_ready, url, is_ready, on_ready)
        await supervisor.run()
        tasks.cancel_scope.cancel()


async def _watch_the_log(supervisor: Supervisor, config: Config, is_tried: anyio.Event) -> None:
    """Raises `BusError` for a log that refuses."""
    async with open_shared_bus(config, lambda _error: is_tried.set()) as bus:
        is_tried.set()
        await supervisor.watch(bus)


def with_port(config: Config) -> Config:
    """The configuration with a port that is free, or that a media process of ours has.

    Raises `ListenError`.
    """
    try:
        with bind(config.http) as bound:
            port = bound.getsockname()[1]
    except ListenError:
        if not any(has_record(config.site_dir, name) for name in (_MEDIA, _SPARE_MEDIA)):
            raise
        port = config.http.port
    return config.model_copy(update={"http": config.http.model_copy(update={"port": port})})


def role_specs(
    config: Config,
    agent_file: Path | None,
    orchestrators: int,
    config_file: Path | None,
    is_ready: anyio.Event,
) -> list[RoleSpec]:
    """The same options give the same command lines, so that a supervisor finds its roles again.

    The first orchestrator has the machine for itself until calls are taken, which is `is_ready`.
    """
    shared = [] if agent_file is None else [str(agent_file.resolve())]
    shared += ["--bus", config.log_url]
    if config_file is not None:
        shared += ["--config", str(config_file.resolve())]
    http = config.http
    media = ["--host", http.host, "--port", str(http.port), "--max-sessions", str(config.media.max_sessions)]
    if http.tls_cert is not None and http.tls_key is not None:
        media += ["--tls-cert", str(http.tls_cert.resolve()), "--tls-key", str(http.tls_key.resolve())]
    media_command = _command("media", [*shared, *media, "--spare"])
    return [
        *(
            RoleSpec(
                name=name,
                argv=media_command,
                worker_id=_fresh(name.replace("-", "_")),
                stop_order=_MEDIA_STOPS,
                behind=is_ready if name != _MEDIA else None,
            )
            for name in (_MEDIA, _SPARE_MEDIA)
        ),
        *(
            RoleSpec(
                name=f"orchestrator-{number}",
                argv=_command("orchestrator", shared),
                worker_id=_fresh(f"orchestrator_{number}"),
                stop_order=_ORCHESTRATORS_STOP,
                behind=is_ready if number > 1 else None,
            )
            for number in range(1, orchestrators + 1)
        ),
    ]


def _command(role: str, options: Iterable[str]) -> list[str]:
    return [sys.executable, "-m", "voxthread", role, *options]


def _fresh(name: str) -> Callable[[], str]:
    """Each life of a process has an id of its own, so that a notice of death speaks of one life only."""
    return lambda: f"{name}_{secrets.token_hex(4)}"


def _blocker(config: Config) -> Callable[[], int | None]:
    file = sqlite_file(config.log_url)
    return lambda: who_writes(file) if file is not None else None


async def _tell_when_ready(url: str, is_ready: anyio.Event, on_ready: Callable[[str], None]) -> None:
    while not await to_thread.run_sync(_is_ready, url, abandon_on_cancel=True):  # noqa: ASYNC110  another process
        await anyio.sleep(_ASK_AGAIN_S)
    is_ready.set()
    log.info("server.ready", url=url)
    on_ready(url)


def _is_ready(url: str) -> bool:
    """Whether the media process takes calls. Its certificate is for others to check: this is its machine."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    try:
        with urlopen(f"{url}/readyz", timeout=1, context=unchecked):
            return True
    except (URLError, TimeoutError, ConnectionError):
        return False
