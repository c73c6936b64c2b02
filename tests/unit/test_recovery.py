"""What the log says of a session whose owner is gone: which events it owes, and who may publish which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import voxthread
from faked_call import SESSION_ID, TURN
from voxthread.bus.memory import MemoryBus
from voxthread.core import events, inputs
from voxthread.core.turn_state import TurnSnapshot
from voxthread.orchestrator.recovery import recover
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.facts import SessionOpened
from voxthread.wire.inputs import encode_input
from voxthread.wire.log import Record, Stream
from voxthread.wire.snapshots import SessionSnapshot, encode_snapshot

pytestmark = pytest.mark.unit

PACKAGES = Path(voxthread.__file__).parent
EVENT_NAMES = {kind.__name__ for kind in events.PUBLIC_EVENTS}


def snapshot_record() -> Record:
    return encode_snapshot(
        SessionSnapshot(
            session_id=SESSION_ID,
            epoch=1,
            opened=SessionOpened(agent="repeater", principal="test", via="whip", created_at_ms=0),
            turn=TurnSnapshot(at_ms=0),
            event_seq=0,
            input_seq=0,
            events_position=0,
            in_position=0,
            audio_position=1,
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
