"""The log on which the roles meet when they are processes of their own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from voxthread.bus.open import open_bus, sqlite_file
from voxthread.config import Config
from voxthread.core.failures import BusError
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.wire.log import Bus

log = get_logger(__name__)

_RETRY_S = 0.5
_TELL_AGAIN_MS = 5_000


class RoleError(BusError):
    """The roles cannot meet."""


@asynccontextmanager
async def open_shared_bus(
    config: Config, on_waiting: Callable[[BusError], None] = lambda _error: None
) -> AsyncIterator[Bus]:
    """A log that is away is waited for, of which `on_waiting` is told. Raises `BusError` for one that no
    waiting mends.
    """
    if config.bus.url == "memory":
        raise RoleError(
            "bus.not_shared",
            "roles in processes of their own need a log they share: --bus sqlite:FILE or kafka://...",
        )
    async with AsyncExitStack() as stack:
        tell_ms = 0
        while True:
            try:
                bus = await stack.enter_async_context(open_bus(config.log_url, config.bus))
                break
            except BusError as error:
                if not error.retryable:
                    raise
                on_waiting(error)
                if now_ms() >= tell_ms:
                    log.warning("log.waiting", code=error.code, detail=error.detail)
                    tell_ms = now_ms() + _TELL_AGAIN_MS
                await anyio.sleep(_RETRY_S)
        yield bus


@asynccontextmanager
async def open_standing_bus(config: Config) -> AsyncIterator[Bus]:
    """The log of a server, looked at from outside; none is made. Raises `BusError`."""
    log_file = sqlite_file(config.log_url)
    if log_file is not None and not await anyio.Path(log_file).exists():
        raise BusError("bus.no_log", f"{log_file} is not there; name the server's log with --bus")
    async with open_bus(config.log_url, config.bus) as bus:
        yield bus
