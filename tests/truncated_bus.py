"""A log that has lost its newest records, as one broker without copies does when its power is cut."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from voxthread.bus.memory import MemoryBus
from voxthread.core.failures import BusError
from voxthread.wire.log import StoredRecord, Stream

LOST = 1_000_000


class TruncatedBus(MemoryBus):
    """The first time that somebody asks where a partition of the streams `lost` begins or ends, it is as it was
    before; who reads from there hears that there is no such place.
    """

    def __init__(self, partitions: int, lost: Collection[Stream]) -> None:
        super().__init__(partitions)
        self._lost = {(stream, partition) for stream in lost for partition in range(partitions)}

    async def oldest(self, stream: Stream, partition: int) -> int:
        return self._before(stream, partition) or await super().oldest(stream, partition)

    async def head(self, stream: Stream, partition: int) -> int:
        return self._before(stream, partition) or await super().head(stream, partition)

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        head = await super().head(stream, partition)
        if from_position > head:
            raise BusError("bus.position_lost", f"position {from_position} lies beyond the end, {head}")
        async with aclosing(super().read(stream, partition, from_position)) as records:
            async for stored in records:
                yield stored

    def _before(self, stream: Stream, partition: int) -> int:
        place = (stream, partition)
        if place not in self._lost:
            return 0
        self._lost.remove(place)
        return LOST
