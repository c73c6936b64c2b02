"""One session's way to one stream of the log: records leave in order, and nobody waits for the broker."""

import anyio

from voxthread.wire.log import Bus, Record, Stream

_MAX_RECORDS = 2_000  # minutes of one session


class LogWriter:
    """A bounded queue and the task that drains it. When it is full the session waits: nothing is dropped."""

    def __init__(self, bus: Bus, stream: Stream, partition: int) -> None:
        self._bus = bus
        self._stream = stream
        self._partition = partition
        self._send, self._receive = anyio.create_memory_object_stream[Record](_MAX_RECORDS)

    async def put(self, record: Record) -> None:
        await self._send.send(record)

    def close(self) -> None:
        """No more will come; what is queued is still written."""
        self._send.close()

    async def run(self) -> None:
        async with self._receive:
            async for record in self._receive:
                await self._bus.append(self._stream, self._partition, record)
