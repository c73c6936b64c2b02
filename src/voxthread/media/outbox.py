"""A session's records on their way to the log, so that a slow log never blocks its RTP."""

from collections import deque
from typing import Final

import anyio

from voxthread.core.failures import BusError
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import AUDIO_DROPPED_SECONDS
from voxthread.wire.log import Bus, Record, Stream

MAX_AUDIO_MS: Final = 30_000
"""Beyond it the oldest audio is dropped: late words are worth less than new ones. Facts are kept."""

MAX_FACTS: Final = 10_000

_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 2.0

log = get_logger(__name__)


class Outbox:
    """Bounded queue of one writer to one partition of `voxthread.in`."""

    def __init__(self, bus: Bus, partition: int) -> None:
        self._bus = bus
        self._partition = partition
        self._waiting: deque[tuple[Record, int]] = deque()
        self._audio_ms = 0
        self._changed = anyio.Event()
        self._is_closed = False

    def put(self, record: Record, *, audio_ms: int = 0) -> None:
        """Queue a record that holds `audio_ms` of audio, 0 for a fact."""
        if self._is_closed:
            return
        self._waiting.append((record, audio_ms))
        self._audio_ms += audio_ms
        while self._audio_ms > MAX_AUDIO_MS or len(self._waiting) > MAX_FACTS:
            self._drop_oldest_audio()
        self._changed.set()

    def close(self) -> None:
        """Take no more; `run` returns when what is queued is written."""
        self._is_closed = True
        self._changed.set()

    async def run(self) -> None:
        """Write until closed. Records that the log refuses for good are dropped and logged."""
        while self._waiting or not self._is_closed:
            if not self._waiting:
                self._changed = anyio.Event()
                await self._changed.wait()
                continue
            record, audio_ms = self._waiting.popleft()
            self._audio_ms -= audio_ms
            await self._append(record)

    async def _append(self, record: Record) -> None:
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                await self._bus.append(Stream.IN, self._partition, record)
            except BusError as error:
                log.warning("bus.append_failed", code=error.code, retryable=error.retryable)
                if not error.retryable:
                    return
                await anyio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                return

    def _drop_oldest_audio(self) -> None:
        oldest = next((index for index, (_, audio_ms) in enumerate(self._waiting) if audio_ms), 0)
        _, audio_ms = self._waiting[oldest]
        del self._waiting[oldest]
        self._audio_ms -= audio_ms
        AUDIO_DROPPED_SECONDS.labels("in").inc(audio_ms / 1000)
