"""One session's way to one stream of the log: records leave in order, and nobody waits for the broker."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from voxthread.core.failures import BusError
from voxthread.observability.logs import get_logger
from voxthread.wire.log import Bus, Record, Stream

log = get_logger(__name__)

T = TypeVar("T")

_MAX_RECORDS = 2_000  # minutes of one session
_RETRY_S = 0.2


class LogWriter:
    """A bounded queue and the task that drains it. When it is full the session waits: nothing is dropped.

    With `behind`, each record waits until all that was put there before it is on the log: what is done is
    never seen by anybody before why it is done is written down.
    """

    def __init__(self, bus: Bus, stream: Stream, partition: int, *, behind: "LogWriter | None" = None) -> None:
        self._bus = bus
        self._stream = stream
        self._partition = partition
        self._behind = behind
        self._send, self._receive = anyio.create_memory_object_stream[tuple[Record, int]](_MAX_RECORDS)
        self.put_count = 0
        self._written_count = 0
        self._written = anyio.Event()
        self.position = 0
        """Where the newest record of this writer lies; before the first, where it would lie at the earliest."""

    async def put(self, record: Record) -> None:
        await self._send.send((record, self._behind.put_count if self._behind else 0))
        self.put_count += 1

    def close(self) -> None:
        """No more will come; what is queued is still written."""
        self._send.close()

    def discard(self) -> None:
        """What is queued is not written any more."""
        self._send.close()
        self._receive.close()

    async def run(self) -> None:
        async with self._receive:
            async for record, after in self._receive:
                if self._behind is not None:
                    await self._behind.settled(after)
                self.position = await append_patiently(self._bus, self._stream, self._partition, record)
                self._written_count += 1
                self._written.set()
                self._written = anyio.Event()

    async def settled(self, count: int) -> None:
        """Wait until the first `count` records are on the log."""
        while self._written_count < count:
            await self._written.wait()


async def append_patiently(bus: Bus, stream: Stream, partition: int, record: Record) -> int:
    """Readers drop what was stored twice. Raises `BusError` for what waiting does not mend."""
    return await patiently(stream, lambda: bus.append(stream, partition, record))


async def patiently(stream: Stream, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the log until it answers: a broker that is away is waited for. Raises any other `BusError`."""
    is_told = False
    while True:
        try:
            return await ask()
        except BusError as error:
            if not error.retryable:
                raise
            if not is_told:
                log.warning("log.waiting", stream=stream, code=error.code, detail=error.detail)
                is_told = True
            await anyio.sleep(_RETRY_S)
