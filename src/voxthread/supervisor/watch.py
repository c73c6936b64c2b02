"""Finds the roles that live but do not work: silent on the log, or holding it so that nobody can write."""

import secrets
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import anyio

from voxthread.core.failures import BusError
from voxthread.core.workers import DeathNotice, Heartbeat
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.supervisor.silence import Silence
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.control import decode_control, encode_control
from voxthread.wire.log import POSITION_GONE, Bus, StoredRecord, Stream

log = get_logger(__name__)

SILENCE_MS: Final = 3_000
"""Three leases: another has long gone on with what a role owned when it is killed for its silence."""

_BEAT_S: Final = 0.4
_HELD_MS: Final = 1_000
"""An append takes a millisecond; one that takes so long waits for somebody."""
_RETRY_S: Final = 0.2

Blocker = Callable[[], int | None]
"""The process that holds the log so that nobody else can write, if there is one. Must not block."""


class Watch:
    """`on_silent(worker_id)` and `on_blocking(pid)` are called on the event loop and must not block."""

    def __init__(
        self,
        bus: Bus,
        *,
        on_silent: Callable[[str], None],
        on_blocking: Callable[[int], None],
        blocker: Blocker = lambda: None,
        silence_ms: int = SILENCE_MS,
        now: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._bus = bus
        self._on_silent = on_silent
        self._on_blocking = on_blocking
        self._blocker = blocker
        self._now = now
        self._worker_id = f"supervisor_{secrets.token_hex(4)}"
        self._silence = Silence(silence_ms)
        self._asked_ms: int | None = None
        self._suspect: int | None = None

    async def run(self) -> None:
        """Until cancelled, whatever becomes of the log."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow)
            tasks.start_soon(self._beat)
            while True:
                await anyio.sleep(_BEAT_S)
                self._look_for_blocker()

    async def _beat(self) -> None:
        """The supervisor is a worker that never owns anything; what counts is that its word comes back."""
        while True:
            self._asked_ms = self._now()
            beat = Heartbeat(worker_id=self._worker_id, at_ms=self._asked_ms, is_first=True, is_ready=False)
            try:
                await self._bus.append(Stream.CONTROL, 0, encode_control(beat, can_wait=True))
            except BusError as error:
                log.debug("supervisor.unheard", code=error.code)
            else:
                self._asked_ms = None
            await anyio.sleep(_BEAT_S)

    def _look_for_blocker(self) -> None:
        """Twice the same one, so that whoever just happened to write is not taken for it."""
        is_held = self._asked_ms is not None and self._now() - self._asked_ms > _HELD_MS
        before, self._suspect = self._suspect, self._blocker() if is_held else None
        if self._suspect is not None and self._suspect == before:
            self._on_blocking(self._suspect)

    async def _follow(self) -> None:
        position: int | None = None
        while True:
            try:
                if position is None:
                    position = await self._bus.head(Stream.CONTROL, 0)
                async with aclosing(self._bus.read(Stream.CONTROL, 0, position)) as records:
                    async for stored in records:
                        position = stored.position + 1
                        self._take(stored)
            except BusError as error:
                if error.code in POSITION_GONE:
                    position = None
                log.debug("supervisor.deaf", code=error.code)
                await anyio.sleep(_RETRY_S)

    def _take(self, stored: StoredRecord) -> None:
        try:
            record = decode_control(stored.record.value)
        except MalformedRecordError:
            return  # counted by those who act on it
        match record:
            case Heartbeat(worker_id=self._worker_id, at_ms=at_ms):
                self._silence.hear_echo(at_ms, self._now())
                for worker_id in self._silence.silent():
                    self._on_silent(worker_id)
            case Heartbeat(worker_id=worker_id):
                self._silence.hear(worker_id)
            case DeathNotice(worker_id=worker_id, by="supervisor"):
                self._silence.forget(worker_id)
            case _:
                pass
