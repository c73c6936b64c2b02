"""Rolling deploys: a session goes on from an older version's snapshot, and one of a newer is left alone."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import anyio
import msgspec
import pytest

from faked_call import SESSION_ID, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from replay.calls import SNAPSHOT, TURN, WAIT, faked_engines
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.turn_state import Reply, State
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.recovery import recover, until_now
from voxthread.wire import facts
from voxthread.wire.audio import is_audio
from voxthread.wire.log import Record, Stream
from voxthread.wire.snapshots import (
    SNAPSHOT_VERSION,
    NewerSnapshotError,
    PartitionProgress,
    SessionSnapshot,
    decode_snapshot,
    encode_progress,
)
from voxthread.wire.stamp import Stamp

pytestmark = pytest.mark.replay

OTHER_ID = "session_1753590741399041_5cc15fe7"


def stored_snapshot() -> bytes:
    return SNAPSHOT.read_bytes()


def newer_snapshot() -> bytes:
    """As a later version may write it: more than this one knows, and something it knows in another form."""
    fields = msgspec.json.decode(stored_snapshot())
    return msgspec.json.encode({**fields, "v": SNAPSHOT_VERSION + 1, "turn": {"form": "new"}})


async def log_with(*states: bytes) -> MemoryBus:
    """A log of one partition that is as long as the snapshot says, with records of somebody else."""
    bus, snapshot = MemoryBus(1), decode_snapshot(stored_snapshot())
    stamp = Stamp(OTHER_ID, epoch=0)
    for _ in range(snapshot.in_position + 1):
        await bus.append(Stream.IN, 0, stamp.in_fact(facts.InterruptCommand()))
    for _ in range(snapshot.events_position + 1):
        await bus.append(Stream.EVENTS, 0, Record(OTHER_ID, b"{}"))
    for _ in range(snapshot.out_position):
        await bus.append(Stream.OUT, 0, stamp.out_fact(facts.ResumePlayout(turn_id=1)))
    for state in states:
        await bus.append(Stream.STATE, 0, Record(SESSION_ID, state))
    return bus


async def send_reply(bus: MemoryBus, reply: Reply) -> None:
    """What the owner before had sent of it: all."""
    stamp = Stamp(SESSION_ID, epoch=1)
    packets = tuple(tone_packets(440, reply.ledger.total_ms))
    await bus.append(Stream.OUT, 0, stamp.audio(packets, timestamp=0, turn_id=reply.turn_id))


async def until_played(bus: MemoryBus, reply: Reply) -> None:
    """Until the media process is where it was when the snapshot was written."""
    async with aclosing(bus.read(Stream.IN, 0, 0)) as records:
        async for stored in records:
            if stored.record.key == SESSION_ID and not is_audio(stored.record.value):
                fact = facts.decode_in_fact(stored.record.value).fact
                if isinstance(fact, facts.PlayoutProgress) and fact.played_ms >= reply.played_ms:
                    return


@asynccontextmanager
async def owned(bus: MemoryBus, epoch: int) -> AsyncIterator[None]:
    """The clock goes on from when the snapshot was written: the call is not as old as the file."""
    age_ms = now_ms() - decode_snapshot(stored_snapshot()).at_ms
    with anyio.fail_after(20):
        async with orchestrator(bus, epoch, faked_engines(), turn=TURN, now=lambda: now_ms() - age_ms):
            yield


def test_the_stored_snapshot_is_read() -> None:
    snapshot = decode_snapshot(stored_snapshot())
    turn = snapshot.turn
    assert turn.state is State.OVERLAP
    assert turn.reply is not None
    assert 0 < turn.reply.played_ms < turn.reply.ledger.total_ms
    assert turn.utterance is not None
    assert turn.utterance.ended_ms is None
    assert [message.role for message in turn.history] == ["assistant", "user"]


@pytest.mark.anyio
async def test_a_session_goes_on_from_the_stored_snapshot() -> None:
    """The caller was speaking over the agent: the reply is cut where it was heard, the question answered."""
    bus, snapshot = await log_with(stored_snapshot()), decode_snapshot(stored_snapshot())
    assert snapshot.turn.reply is not None
    media = FakeMedia(bus, SESSION_ID, 0)
    async with anyio.create_task_group() as tasks:
        await send_reply(bus, snapshot.turn.reply)
        tasks.start_soon(media.run)
        await until_played(bus, snapshot.turn.reply)
        media.speak(tone_packets(WAIT, 1_200))
        async with owned(bus, 2):
            await until(bus, events.AgentSpeechStopped, 1)
            await media.send(facts.EndCommand(reason="hung_up"))
            await media.closed.wait()
        tasks.cancel_scope.cancel()
    told = [envelope.event for envelope in await story(bus)]
    assert isinstance(told[0], events.OrchestratorTakeover)
    interrupted = next(event for event in told if isinstance(event, events.AgentInterrupted))
    assert interrupted.heard_text.startswith("Breakfast is served")
    heard = next(event for event in told if isinstance(event, events.AgentSpeechStopped))
    assert heard.turn_id == snapshot.turn.turn_count + 1
    assert "park" in heard.heard_text.lower()


def test_a_newer_snapshot_is_told_from_a_broken_one() -> None:
    with pytest.raises(NewerSnapshotError, match=f"version {SNAPSHOT_VERSION + 1}"):
        decode_snapshot(newer_snapshot())


@pytest.mark.anyio
async def test_a_session_of_a_newer_version_is_left_alone_and_the_others_are_served() -> None:
    """Also when an older snapshot of it lies before, and its opening has not been read."""
    bus = await log_with(stored_snapshot(), newer_snapshot())
    await bus.append(Stream.STATE, 0, encode_progress(0, PartitionProgress(in_position=0, epoch=1)))
    media, other = FakeMedia(bus, SESSION_ID, 0), FakeMedia(bus, OTHER_ID, 0)
    before = await bus.head(Stream.STATE, 0)
    async with anyio.create_task_group() as tasks, owned(bus, 2):
        await media.open("hotel")
        await media.send(facts.TextCommand(text="Is there parking?"))
        tasks.start_soon(other.run)
        await other.open("hotel")
        await until(bus, events.AgentSpeechStopped, 1)
        tasks.cancel_scope.cancel()
    assert {envelope.session_id for envelope in await story(bus)} == {OTHER_ID}
    touched = [stored.record.key async for stored in until_now(bus, Stream.STATE, 0, before)]
    assert SESSION_ID not in touched


@pytest.mark.anyio
async def test_a_session_of_a_newer_version_that_has_ended_stays_ended() -> None:
    bus = await log_with(newer_snapshot(), b"")
    recovery = await recover(bus, 0, TURN)
    assert recovery.sessions == {}
    assert recovery.closed == {SESSION_ID}


def test_a_snapshot_with_fields_this_version_does_not_know_is_read() -> None:
    fields = msgspec.json.decode(stored_snapshot())
    snapshot = decode_snapshot(msgspec.json.encode({**fields, "mood": "good"}))
    assert isinstance(snapshot, SessionSnapshot)
    assert snapshot.turn.at_ms < now_ms()
