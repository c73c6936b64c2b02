"""A call while its only broker is away for ten seconds: no word is lost, and its owner keeps it."""

import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from faked_call import QUESTIONS, SESSION_ID, Repeater, engines_of
from integration.fake_media import FakeMedia, tone_packets
from kafka.brokers import Broker, Cluster
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.bus.kafka import KafkaBus
from voxthread.bus.kafka_settings import KafkaSettings
from voxthread.config import Config
from voxthread.core import events
from voxthread.core.owners import PartitionClaim
from voxthread.media.outbox import Outbox
from voxthread.observability.clock import now_ms
from voxthread.sessions.attendance import Attendance
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord, decode_audio, is_audio
from voxthread.wire.claims import decode_claim
from voxthread.wire.events import Envelope, decode_event, is_public
from voxthread.wire.log import Bus, Record, StoredRecord, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(180)]

OUTAGE_S = 10

StartKafka = Callable[[int, Path], AbstractContextManager[Cluster]]


@pytest.fixture(scope="module")
def one_broker(tmp_path_factory: pytest.TempPathFactory, start_kafka: StartKafka) -> Iterator[Cluster]:
    with start_kafka(1, tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


class ThroughOutbox:
    """A bus whose writer never waits for it, as a media process uses it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.outbox = Outbox(bus, 0)

    @property
    def partitions(self) -> int:
        return self._bus.partitions

    @property
    def closing(self) -> str | None:
        return self._bus.closing

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        audio_ms = decode_audio(record.value).duration_ms if is_audio(record.value) else 0
        self.outbox.put(record, audio_ms=audio_ms)
        return 0

    def read(self, stream: Stream, partition: int, from_position: int) -> AsyncGenerator[StoredRecord, None]:
        return self._bus.read(stream, partition, from_position)

    async def oldest(self, stream: Stream, partition: int) -> int:
        return await self._bus.oldest(stream, partition)

    async def head(self, stream: Stream, partition: int) -> int:
        return await self._bus.head(stream, partition)


class Call:
    """A caller at a media process, and what the log tells of it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        through = ThroughOutbox(bus)
        self.outbox = through.outbox
        self.media = FakeMedia(through, SESSION_ID, 0)
        self.told: list[tuple[int, Envelope]] = []
        self._news = anyio.Event()

    async def follow(self) -> None:
        async with aclosing(self._bus.read(Stream.EVENTS, 0, 0)) as records:
            async for stored in records:
                if is_public(stored.record):
                    self.told.append((now_ms(), decode_event(stored.record.value)))
                    self._news.set()

    async def until(self, kind: type[events.Event], count: int) -> int:
        """When the event was told for so many times."""
        while True:
            at_ms = [at for at, envelope in self.told if isinstance(envelope.event, kind)]
            if len(at_ms) >= count:
                return at_ms[count - 1]
            self._news = anyio.Event()
            await self._news.wait()

    @property
    def user_texts(self) -> list[str]:
        return [
            envelope.event.text
            for _, envelope in self.told
            if isinstance(envelope.event, events.UserTranscript) and envelope.event.final
        ]


@asynccontextmanager
async def two_orchestrators(servers: str) -> AsyncIterator[tuple[Call, Bus]]:
    """Of which one owns the one partition; each has a connection of its own, and so has the caller."""
    settings = KafkaSettings(servers=servers, topic_prefix=f"{uuid4().hex[:8]}.")
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(KafkaBus(settings, 1)) for _ in range(3)]
        repeating = engines_of({"repeater": Repeater()})
        for name, bus in zip("ab", buses, strict=False):
            await stack.enter_async_context(open_orchestrator(Config(), bus, repeating, name))
        call, attendance = Call(buses[2]), Attendance(buses[2])
        async with anyio.create_task_group() as tasks:
            for run in (call.media.run, call.outbox.run, call.follow, attendance.run):
                tasks.start_soon(run)
            await attendance.complete()
            yield call, buses[2]
            tasks.cancel_scope.cancel()


async def stored_until_now(bus: Bus, stream: Stream) -> list[StoredRecord]:
    head = await bus.head(stream, 0)
    found: list[StoredRecord] = []
    async with aclosing(bus.read(stream, 0, await bus.oldest(stream, 0))) as records:
        while not found or found[-1].position < head - 1:
            found.append(await anext(records))
    return found


async def owners_so_far(bus: Bus) -> list[str]:
    claims = [decode_claim(stored.record.value) for stored in await stored_until_now(bus, Stream.CLAIMS)]
    return [claim.worker_id for claim in claims if isinstance(claim, PartitionClaim)]


async def audio_on_the_log(bus: Bus) -> list[AudioRecord]:
    values = [stored.record.value for stored in await stored_until_now(bus, Stream.IN)]
    return [decode_audio(value) for value in values if is_audio(value)]


async def stopped_for_a_while(broker: Broker, _cluster: Cluster) -> None:
    broker.signal(signal.SIGSTOP)
    try:
        await anyio.sleep(OUTAGE_S)
    finally:
        broker.signal(signal.SIGCONT)


async def killed_and_started_again(broker: Broker, cluster: Cluster) -> None:
    await anyio.to_thread.run_sync(broker.kill)
    await anyio.sleep(OUTAGE_S / 2)  # it takes seconds to start
    broker.start()
    await anyio.to_thread.run_sync(cluster.wait_until_ready)


@pytest.mark.parametrize("outage", [stopped_for_a_while, killed_and_started_again])
async def test_what_is_said_while_the_only_broker_is_away_is_answered_when_it_is_back(
    one_broker: Cluster, outage: Callable[[Broker, Cluster], Awaitable[None]]
) -> None:
    async with two_orchestrators(one_broker.bootstrap) as (call, bus):
        await call.media.open("repeater")
        await call.until(events.AgentSpeechStopped, 1)
        owners = await owners_so_far(bus)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outage, one_broker.brokers[0], one_broker)
            await anyio.sleep(2)
            call.media.speak(tone_packets(500, 600))
        await call.until(events.AgentSpeechStopped, 2)
        call.media.speak(tone_packets(800, 600))
        await call.until(events.AgentSpeechStopped, 3)
        await call.media.send(facts.EndCommand(reason="hung_up"))
        await call.until(events.SessionClosed, 1)
        assert call.user_texts == list(QUESTIONS.values())
        assert [envelope.seq for _, envelope in call.told] == list(range(1, len(call.told) + 1))
        assert await owners_so_far(bus) == owners
        starts = [record.timestamp for record in await audio_on_the_log(bus)]
        assert starts == list(range(0, 960 * 3 * len(starts), 960 * 3))
