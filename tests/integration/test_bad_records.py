"""Records nobody should have written, on every stream of a log with live calls: the calls go on."""

import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest
from anyio.abc import TaskGroup

from faked_call import BLUE_HZ, RED_HZ, until
from integration.fake_media import FakeMedia, tone_packets
from poisoned_call import dead_letters, heard_by, kept, killing_engines
from voxthread.app.media_role import open_media
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.bus.memory import MemoryBus
from voxthread.bus.policies import RECORD_MAX_BYTES
from voxthread.config import Config
from voxthread.core import events
from voxthread.core.failures import BusError
from voxthread.wire.audio import AudioRecord, encode_audio
from voxthread.wire.log import Record, StoredRecord, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

VICTIM_ID = "session_1753590741399040_5cc15fe6"
BYSTANDER_ID = "session_1753590741399041_5cc15fe7"
LATER_ID = "session_1753590741399042_5cc15fe8"
PATIENCE_S = 60
GARBAGE = (b"\xff\xfe", b"{", b"{}", b"[]", b"null", b'{"v": 99}', b'{"v": 1}', b"\x01", b"\x02" * 30)
EVERYWHERE = [stream for stream in Stream if stream is not Stream.DLQ]


@dataclass
class Calls:
    """Two live calls, each answered once, whose owner is one of two processes; a media process reads too."""

    bus: MemoryBus
    tasks: TaskGroup
    owners: dict[str, anyio.CancelScope]
    victim: FakeMedia
    bystander: FakeMedia

    async def start_owner(self, worker_id: str) -> None:
        scope = self.owners[worker_id] = anyio.CancelScope()
        ready = anyio.Event()

        async def own() -> None:
            with scope:
                async with open_orchestrator(Config(), self.bus, killing_engines(), worker_id):
                    ready.set()
                    await anyio.sleep_forever()

        self.tasks.start_soon(own)
        await ready.wait()

    async def call(self, media: FakeMedia) -> None:
        self.tasks.start_soon(media.run)
        await media.open("repeater")
        await self.ask(media, 1)

    async def ask(self, media: FakeMedia, number: int) -> None:
        media.speak(tone_packets(BLUE_HZ if number % 2 else RED_HZ, 600))
        await until(self.bus, events.AgentSpeechStopped, number, session_id=media.session_id)


@asynccontextmanager
async def calls() -> AsyncIterator[Calls]:
    bus = MemoryBus(1)
    with anyio.fail_after(PATIENCE_S):
        async with (
            open_media(Config(), bus, ("repeater",), "media_1", is_bus_shared=True),
            anyio.create_task_group() as tasks,
        ):
            made = Calls(bus, tasks, {}, FakeMedia(bus, VICTIM_ID, 0), FakeMedia(bus, BYSTANDER_ID, 0))
            await made.start_owner("orchestrator_1")
            await made.call(made.victim)
            await made.call(made.bystander)
            await made.start_owner("orchestrator_2")
            yield made
            tasks.cancel_scope.cancel()


def bad_records(good: list[StoredRecord]) -> Iterator[Record]:
    """Of the victim's and of nobody: garbage, unknown versions, bad ids, old epochs, doubles, out of order."""
    for key in (VICTIM_ID, "", "session_1_x", "\x00" * 10, "x" * 2_000, "partition-0", "attempt-", "0"):
        for value in GARBAGE:
            yield Record(key, value)
            yield Record(key, value, (("ce_type", b"user.transcript"),))
    yield Record(VICTIM_ID, b"{" + b" " * (RECORD_MAX_BYTES - 100))
    yield Record(VICTIM_ID, encode_audio(AudioRecord(epoch=0, seq=1, timestamp=0, packets=(b"",) * 500_000)))
    mine = [stored.record for stored in good if VICTIM_ID in stored.record.key]
    for record in [*mine, *reversed(mine)]:
        yield record
        yield Record("session_1753590741399049_00000000", record.value, record.headers)
        if record.value[:1] == b"{":
            yield Record(record.key, json.dumps({**json.loads(record.value), "v": 99}).encode(), record.headers)


async def test_bad_records_everywhere_both_calls_and_the_next_go_on_also_with_another_owner() -> None:
    async with calls() as at:
        for stream in EVERYWHERE:
            good = await kept(at.bus, stream)
            for record in bad_records(good):
                if stream is not Stream.STATE or record.key != VICTIM_ID or not ends_session(record):
                    await at.bus.append(stream, 0, record)
        await at.ask(at.victim, 2)
        await at.ask(at.bystander, 2)
        at.owners["orchestrator_1"].cancel()
        await until(at.bus, events.OrchestratorTakeover, session_id=BYSTANDER_ID)
        await at.ask(at.bystander, 3)
        await at.ask(at.victim, 3)
        await at.call(FakeMedia(at.bus, LATER_ID, 0))
        answers = [f"You asked What is {color}. That I know." for color in ("blue", "red", "blue")]
        assert await heard_by(at.bus, VICTIM_ID) == answers
        assert await heard_by(at.bus, BYSTANDER_ID) == answers
        assert {letter.stream for letter in await dead_letters(at.bus)} == {Stream.IN, Stream.OUT}


def ends_session(snapshot: Record) -> bool:
    """A tombstone, or one of a newer version, which has the session from then on."""
    return not snapshot.value or b'"v": 99' in snapshot.value


@pytest.mark.parametrize("seed", range(3))
async def test_records_changed_at_random_the_other_call_goes_on_also_with_another_owner(seed: int) -> None:
    chance = random.Random(seed)
    async with calls() as at:
        for stream in EVERYWHERE:
            mine = [each.record for each in await kept(at.bus, stream) if VICTIM_ID in each.record.key]
            for record in chance.choices(mine, k=100) if mine else ():
                await at.bus.append(
                    stream, 0, Record(record.key, changed(record.value, chance), record.headers)
                )
        await at.ask(at.bystander, 2)
        at.owners["orchestrator_1"].cancel()
        await until(at.bus, events.OrchestratorTakeover, session_id=BYSTANDER_ID)
        await at.ask(at.bystander, 3)
        await at.call(FakeMedia(at.bus, LATER_ID, 0))


def changed(value: bytes, chance: random.Random) -> bytes:
    """Digits for digits, mostly: what still parses does more harm than what does not."""
    made = bytearray(value)
    for _ in range(chance.randrange(1, 4)):
        if made:
            at = chance.randrange(len(made))
            made[at] = chance.choice(b"0123456789") if chr(made[at]).isdigit() else chance.randrange(256)
    return bytes(made)


async def test_ten_megabytes_are_refused_before_they_are_anywhere() -> None:
    with pytest.raises(BusError, match="record_too_large"):
        await MemoryBus(1).append(Stream.IN, 0, Record(VICTIM_ID, bytes(10 * 1024 * 1024)))
