"""The log is away while an orchestrator serves, takes over, or begins a call: it waits, and ends nothing."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import anyio
import pytest

from faked_call import QUESTIONS, SESSION_ID, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.failures import BusError
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.wire.log import Record, StoredRecord, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PATIENCE_S = 15
MEDIA_SILENCE_MS = 2_500
OUTAGE_S = 4.0
"""Longer than a media process may be silent."""


class AwayBus(MemoryBus):
    """Some of its streams have no leader at times, for whoever uses it through this."""

    def __init__(self, bus: MemoryBus, away_streams: Sequence[Stream] = ()) -> None:
        super().__init__(bus.partitions)
        self._bus = bus
        self._back = anyio.Event()
        self._away = set(away_streams)
        self.refused = anyio.Event()

    def lose(self, *streams: Stream) -> None:
        self._away.update(streams)
        self._back = anyio.Event()

    def find(self) -> None:
        self._away.clear()
        self._back.set()

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        self._check(stream)
        return await self._bus.append(stream, partition, record)

    async def head(self, stream: Stream, partition: int) -> int:
        self._check(stream)
        return await self._bus.head(stream, partition)

    async def oldest(self, stream: Stream, partition: int) -> int:
        self._check(stream)
        return await self._bus.oldest(stream, partition)

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        async with aclosing(self._bus.read(stream, partition, from_position)) as records:
            async for stored in records:
                if stream in self._away:
                    await self._back.wait()
                yield stored

    def _check(self, stream: Stream) -> None:
        if stream in self._away:
            self.refused.set()
            raise BusError("bus.unreachable", "no broker answers", retryable=True)


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(1)


@pytest.fixture
async def media(bus: MemoryBus) -> AsyncIterator[FakeMedia]:
    media = FakeMedia(bus, SESSION_ID, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(media.run)
        with anyio.fail_after(PATIENCE_S):
            yield media
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("stream", [Stream.EVENTS, Stream.OUT, Stream.STATE])
async def test_call_begun_while_a_stream_is_away_is_greeted_when_it_is_back(
    stream: Stream, bus: MemoryBus, media: FakeMedia
) -> None:
    away = AwayBus(bus)
    async with orchestrator(away, 1):
        away.lose(stream)
        await media.open("repeater")
        await away.refused.wait()
        away.find()
        await until(bus, events.AgentSpeechStopped, 1)


async def test_partition_taken_while_its_stream_is_away_is_served_when_it_is_back(
    bus: MemoryBus, media: FakeMedia
) -> None:
    away = AwayBus(bus, [Stream.IN])
    async with orchestrator(away, 1):
        await away.refused.wait()
        away.find()
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)


async def test_log_away_for_longer_than_media_may_be_silent_call_goes_on(
    bus: MemoryBus, media: FakeMedia
) -> None:
    away = AwayBus(bus)
    async with orchestrator(away, 1, call=CallPolicy(media_silence_ms=MEDIA_SILENCE_MS)):
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        away.lose(*Stream)
        await anyio.sleep(OUTAGE_S)
        away.find()
        media.speak(tone_packets(next(iter(QUESTIONS)), 600))
        await until(bus, events.AgentSpeechStopped, 2)
    assert not [each for each in await story(bus) if isinstance(each.event, events.SessionClosed)]


async def test_dead_letters_that_wait_for_their_broker_keep_no_caller_waiting(
    bus: MemoryBus, media: FakeMedia
) -> None:
    away = AwayBus(bus, [Stream.DLQ])
    async with orchestrator(away, 1):
        await bus.append(Stream.IN, 0, Record(SESSION_ID, b"{"))
        await away.refused.wait()
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        assert await bus.head(Stream.DLQ, 0) == 0
        away.find()
        async with aclosing(bus.read(Stream.DLQ, 0, 0)) as letters:
            assert (await anext(letters)).record.key == SESSION_ID


class LosingBus(MemoryBus):
    """Has lost its newest records when somebody first reads those of callers."""

    def __init__(self) -> None:
        super().__init__(1)
        self._is_lost = False
        self.asked_again = anyio.Event()

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        if stream is Stream.IN and not self._is_lost:
            self._is_lost = True
            raise BusError("bus.position_lost", f"position {from_position} lies beyond the end")
        async with aclosing(super().read(stream, partition, from_position)) as records:
            async for stored in records:
                yield stored

    async def head(self, stream: Stream, partition: int) -> int:
        head = await super().head(stream, partition)
        if stream is Stream.IN and self._is_lost:
            self.asked_again.set()
        return head


async def test_partition_that_has_lost_records_is_read_from_its_end_on() -> None:
    bus = LosingBus()
    media = FakeMedia(bus, SESSION_ID, 0)
    with anyio.fail_after(PATIENCE_S):
        async with orchestrator(bus, 1), anyio.create_task_group() as tasks:
            tasks.start_soon(media.run)
            await bus.asked_again.wait()
            await media.open("repeater")
            await until(bus, events.AgentSpeechStopped, 1)
            tasks.cancel_scope.cancel()
