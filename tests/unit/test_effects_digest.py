"""The digest of effects that replay compares: the same for the same effects, in every process and version."""

from dataclasses import dataclass

import pytest
from hypothesis import given

from unit.test_turn_properties import _policies, _steps, run
from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core.history import Message
from voxthread.core.replay import MachineStarted, Step, drive, effects_digest, replay
from voxthread.core.turn_state import TurnPolicy
from voxthread.core.turns import TurnMachine

pytestmark = pytest.mark.unit

Drawn = list[tuple[int, tuple[object, ...]]]

STARTED = do.Publish(event=events.UserSpeechStarted(utterance_id=1))
STOPPED = do.Publish(event=events.UserSpeechStopped(utterance_id=1))


def test_the_digest_is_the_one_recorded_everywhere() -> None:
    said = (Message(role="user", text="Grüß Gott"),)
    assert effects_digest([]) == "f99ece5a"
    assert (
        effects_digest([do.StartReply(turn_id=1, history=said, utterance="Hi", speculative=True)]) == "cdfa194a"
    )


def test_events_with_the_same_fields_differ() -> None:
    assert effects_digest([STARTED]) != effects_digest([STOPPED])


def test_the_order_counts() -> None:
    assert effects_digest([STARTED, STOPPED]) != effects_digest([STOPPED, STARTED])


def test_a_field_added_with_a_default_changes_no_digest() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class HoldPlayout:
        turn_id: int
        fade_ms: int = 0

    old = effects_digest([do.HoldPlayout(turn_id=1)])
    assert effects_digest([HoldPlayout(turn_id=1)]) == old  # type: ignore[list-item]
    assert effects_digest([HoldPlayout(turn_id=1, fade_ms=5)]) != old  # type: ignore[list-item]


@given(_policies, _steps, _steps)
def test_any_run_with_a_takeover_in_it_replays(policy: TurnPolicy, before: Drawn, after: Drawn) -> None:
    told = [*run(policy, before).told, (MachineStarted(policy=policy), 2_000_000), *run(policy, after).told]
    machine = TurnMachine(policy)
    recorded = [Step(position=0, now=0, told=MachineStarted(policy=policy), effects_digest=effects_digest([]))]
    for position, (fact, now) in enumerate(told, 1):
        machine, effects = drive(machine, fact, now)
        digest = effects_digest(effects)
        recorded.append(Step(position=position, now=now, told=fact, effects_digest=digest))
    assert replay(recorded) is None


def test_a_replay_begins_with_a_machine() -> None:
    with pytest.raises(ValueError, match="first owner"):
        replay([Step(position=0, now=0, told=None, effects_digest="")])
