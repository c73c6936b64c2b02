"""What a session writes: why on `events`, then what it does on `out`, and where it stands on `state`."""

import anyio

from voxthread.orchestrator.log_writer import LogWriter, patiently
from voxthread.wire.log import Bus, Stream
from voxthread.wire.snapshots import SessionSnapshot


class SessionLog:
    """The writers of one session. `out` and `state` stay behind `events`: the log never tells of something
    done for a reason it does not hold."""

    def __init__(self, bus: Bus, partition: int, past: SessionSnapshot | None) -> None:
        self._bus = bus
        self._partition = partition
        self._past = past
        self.events = LogWriter(bus, Stream.EVENTS, partition)
        self.out = LogWriter(bus, Stream.OUT, partition, behind=self.events)
        self.state = LogWriter(bus, Stream.STATE, partition, behind=self.events)
        self.reply_position = 0
        """Where audio of the live reply may begin."""

    async def open(self) -> None:
        """Know where the session's records begin. Raises `BusError`."""
        if self._past is None:
            self.events.position = await self._head(Stream.EVENTS)
            self.out.position = await self._head(Stream.OUT)
        else:
            self.events.position = self._past.events_position
            self.out.position = self._past.out_position
        self.reply_position = self.out.position

    async def _head(self, stream: Stream) -> int:
        return await patiently(stream, lambda: self._bus.head(stream, self._partition))

    def begin_reply(self) -> None:
        self.reply_position = self.out.position

    async def run(self) -> None:
        async with anyio.create_task_group() as writers:
            for writer in (self.events, self.out, self.state):
                writers.start_soon(writer.run)

    def close(self) -> None:
        """What is queued is still written."""
        for writer in (self.events, self.out, self.state):
            writer.close()

    def discard(self) -> None:
        """What was not written will not be."""
        for writer in (self.events, self.out, self.state):
            writer.discard()
