"""What the log says of a session whose owner is gone: its newest snapshot, and which events it owes."""

import ast
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

import voxthread
from faked_call import SESSION_ID, TURN
from voxthread.bus.memory import MemoryBus
from voxthread.core import events, inputs
from voxthread.core.turn_state import TurnSnapshot
from voxthread.orchestrator import recovery
from voxthread.orchestrator.recovery import recover
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.facts import SessionOpened
from voxthread.wire.inputs import encode_input
from voxthread.wire.log import Record, StoredRecord, Stream
from voxthread.wire.snapshots import (
    SNAPSHOT_VERSION,
    SessionSnapshot,
    decode_snapshot,
    encode_snapshot,
    encode_tombstone,
)

pytestmark = pytest.mark.unit

PACKAGES = Path(voxthread.__file__).parent
EVENT_NAMES = {kind.__name__ for kind in events.PUBLIC_EVENTS}


def snapshot_record(in_position: int = 0, epoch: int = 1) -> Record:
    return encode_snapshot(
        SessionSnapshot(
            session_id=SESSION_ID,
            epoch=epoch,
            opened=SessionOpened(agent="repeater", principal="test", via="whip", created_at_ms=0),
            turn=TurnSnapshot(at_ms=0),
            event_seq=0,
            input_seq=0,
            events_position=0,
            in_position=in_position,
            audio_position=in_position + 1,
            out_position=0,
        )
    )


def event_record(seq: int, event: events.Event) -> Record:
    return encode_event(
        Envelope(session_id=SESSION_ID, frontend_session_id=SESSION_ID, epoch=1, seq=seq, at_ms=0, event=event)
    )


def input_record(seq: int, told: inputs.Input) -> Record:
    return encode_input(
        told, session_id=SESSION_ID, epoch=1, seq=seq, now=seq, in_position=0, effects_digest=""
    )


OF_THE_OWNER: list[events.Event] = [
    events.SessionCreated(agent="repeater", partition=0, via="whip"),
    events.SessionBound(),
    events.SessionConnected(receives_audio=True),
    events.SessionDisconnected(reason="silent"),
    events.OrchestratorTakeover(gap_ms=1),
    events.SessionIdInvalid(rule="length"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("told", OF_THE_OWNER, ids=lambda event: event.TYPE)
async def test_event_of_the_owner_behind_the_snapshot_no_event_of_the_machine_is_taken_for_published(
    told: events.Event,
) -> None:
    bus = MemoryBus(1)
    await bus.append(Stream.STATE, 0, snapshot_record())
    await bus.append(Stream.EVENTS, 0, event_record(1, told))
    await bus.append(Stream.EVENTS, 0, input_record(1, inputs.SpeechStarted()))
    recovered = (await recover(bus, 0, TURN)).sessions[SESSION_ID]
    assert [type(event) for event in recovered.unpublished] == [events.UserSpeechStarted]


def made_in(package: str) -> Iterator[type[events.Event]]:
    for path in (PACKAGES / package).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in EVENT_NAMES:
                    yield getattr(events, name)


def test_events_made_by_the_owner_are_told_from_those_of_the_machine() -> None:
    """But for the end of a session that failed, behind which nothing is owed any more."""
    of_owner = set(made_in("orchestrator")) - {events.SessionClosed}
    assert {type(event) for event in OF_THE_OWNER} == of_owner
    assert all(issubclass(kind, events.OwnerEvent) for kind in of_owner)
    assert not any(issubclass(kind, events.OwnerEvent) for kind in made_in("core"))


# -- the newest snapshot ----------------------------------------------------------------------------------


def changed(record: Record, **fields: object) -> Record:
    return Record(record.key, msgspec.json.encode({**msgspec.json.decode(record.value), **fields}))


TOMBSTONE = Record(SESSION_ID, b"")
BROKEN = changed(snapshot_record(8), turn={"at_ms": "then"})
OF_ANOTHER = changed(snapshot_record(8), session_id="session_1753590741399041_5cc15fe7")
NEWER = changed(snapshot_record(8), v=SNAPSHOT_VERSION + 1, epoch="in another form")

HISTORIES: dict[str, tuple[list[Record], int | None]] = {
    "newest_of_many": ([snapshot_record(position) for position in range(20)], 19),
    "late_of_an_older_owner": ([snapshot_record(5, epoch=2), snapshot_record(9, epoch=1)], 5),
    "broken_behind_it": ([snapshot_record(4), snapshot_record(5), BROKEN, BROKEN], 5),
    "broken_before_it": ([BROKEN, snapshot_record(5)], 5),
    "only_broken": ([BROKEN], None),
    "of_another_behind_it": ([snapshot_record(5), OF_ANOTHER], 5),
    "ended_by_an_older_owner": ([snapshot_record(5, epoch=2), encode_tombstone(SESSION_ID, 1)], 5),
    "ended_by_an_older_owner_before": ([encode_tombstone(SESSION_ID, 1), snapshot_record(5, epoch=2)], 5),
    "no_json_behind_it": ([snapshot_record(5), Record(SESSION_ID, b"{")], 5),
}


async def recovered_from(records: list[Record]) -> recovery.Recovery:
    bus = MemoryBus(1)
    for record in records:
        await bus.append(Stream.STATE, 0, record)
    return await recover(bus, 0, TURN)


@pytest.mark.anyio
@pytest.mark.parametrize("name", HISTORIES)
async def test_newest_snapshot_that_can_be_read_is_gone_on_from(name: str) -> None:
    records, in_position = HISTORIES[name]
    found = await recovered_from(records)
    positions = {key: session.snapshot.in_position for key, session in found.sessions.items()}
    assert positions == ({} if in_position is None else {SESSION_ID: in_position})
    assert found.closed == set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "end",
    [TOMBSTONE, encode_tombstone(SESSION_ID, 3), NEWER],
    ids=["ended", "ended_by_its_owner", "newer_version"],
)
async def test_snapshot_behind_the_end_of_its_session_begins_nothing_again(end: Record) -> None:
    found = await recovered_from([snapshot_record(4), end, snapshot_record(5, epoch=3)])
    assert found.sessions == {}
    assert found.closed == {SESSION_ID}


@pytest.mark.anyio
async def test_many_snapshots_only_the_newest_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def counting(value: bytes) -> SessionSnapshot:
        read.append(value)
        return decode_snapshot(value)

    monkeypatch.setattr(recovery, "decode_snapshot", counting)
    await recovered_from([snapshot_record(position) for position in range(100)])
    assert read == [snapshot_record(99).value]


class AnsweredBus(MemoryBus):
    """Its readers have all records at hand and wait for nothing."""

    def __init__(self) -> None:
        super().__init__(1)
        self._kept: list[tuple[Stream, StoredRecord]] = []

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        position = await super().append(stream, partition, record)
        self._kept.append((stream, StoredRecord(position, record)))
        return position

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        for of, stored in self._kept:
            if of is stream and stored.position >= from_position:
                yield stored


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [Stream.STATE, Stream.EVENTS])
async def test_long_log_at_hand_others_are_served_while_it_is_read(stream: Stream) -> None:
    bus, turns = AnsweredBus(), 0
    await bus.append(Stream.STATE, 0, snapshot_record())
    for seq in range(1, 1_001):
        is_state = stream is Stream.STATE
        await bus.append(stream, 0, snapshot_record() if is_state else event_record(seq, events.SessionBound()))

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        await recover(bus, 0, TURN)
        tasks.cancel_scope.cancel()
    assert turns > 1_000 // 64 + 5
