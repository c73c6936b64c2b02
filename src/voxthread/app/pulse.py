"""The heartbeats of a media process: they tell its supervisor that it lives, and it that the log does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from voxthread.core.failures import BusError
from voxthread.core.workers import Heartbeat
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.wire.control import encode_control
from voxthread.wire.log import Bus, Stream

log = get_logger(__name__)

_BEAT_S: Final = 0.3
_PATIENCE_MS: Final = 2_000
"""A heartbeat that is not on the log after so long: the log is away."""
_TELL_AGAIN_MS: Final = 5_000


@asynccontextmanager
async def beating(bus: Bus, worker_id: str) -> AsyncIterator["Pulse"]:
    """A pulse for as long as the block lasts."""
    pulse = Pulse(bus, worker_id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse.run)
        yield pulse
        tasks.cancel_scope.cancel()


class Pulse:
    """Writes heartbeats to `voxthread.control`, one at a time; as one who is never ready to own anything."""

    def __init__(self, bus: Bus, worker_id: str) -> None:
        self._bus = bus
        self._worker_id = worker_id
        self._failure: BusError | None = None
        self._asked_ms: int | None = None
        self._told_ms: int | None = None

    def trouble(self) -> BusError | None:
        """Why the log takes nothing now, None when it does."""
        if self._bus.closing is not None:
            return BusError("bus.disk_full", self._bus.closing, retryable=True)
        if self._failure is None and self._asked_ms is not None and now_ms() - self._asked_ms > _PATIENCE_MS:
            away_s = (now_ms() - self._asked_ms) // 1000
            return BusError(
                "bus.unreachable",
                f"the log has not answered for {away_s} s; calls are taken again when it does",
                retryable=True,
            )
        return self._failure

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat)
            while True:
                await anyio.sleep(_BEAT_S)
                self._tell(self.trouble(), now_ms())

    async def _beat(self) -> None:
        while True:
            self._asked_ms = now_ms()
            # Always as the first of a life: should others have taken it for dead, this one tells them better.
            beat = Heartbeat(worker_id=self._worker_id, at_ms=self._asked_ms, is_first=True, is_ready=False)
            try:
                await self._bus.append(Stream.CONTROL, 0, encode_control(beat, can_wait=True))
            except BusError as error:
                self._failure = BusError(error.code, error.detail, retryable=True)
            else:
                self._failure = None
            self._asked_ms = None
            await anyio.sleep(_BEAT_S)

    def _tell(self, trouble: BusError | None, now: int) -> None:
        if trouble is None:
            if self._told_ms is not None:
                log.info("log.back")
            self._told_ms = None
        elif self._told_ms is None or now - self._told_ms >= _TELL_AGAIN_MS:
            self._told_ms = now
            log.warning("log.away", code=trouble.code, detail=trouble.detail)
