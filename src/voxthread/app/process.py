"""What every server process does at its start and its end."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from voxthread.config import Config
from voxthread.observability.logs import configure_logging, get_logger
from voxthread.sessions.tokens import check_bind

log = get_logger(__name__)


def checked_start(config: Config) -> None:
    """Log as configured, and refuse to serve strangers without a key. Raises `SessionError`."""
    configure_logging(config.log_level, for_good=True)
    check_bind(config.http.host, config.auth.key.get_secret_value() if config.auth.key else None)


@asynccontextmanager
async def stop_signals() -> AsyncIterator[anyio.Event]:
    """An event that is set once the process is asked to stop, from when this is entered on."""
    asked = anyio.Event()

    async def listen() -> None:
        await stop_signal()
        asked.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        yield asked
        tasks.cancel_scope.cancel()


async def stop_signal() -> None:
    """Return when the process is asked to stop."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for received in signals:
            log.info("server.stopping", signal=received.name)
            return
