"""Calls that were recorded go today as they went then, to the last effect."""

import msgspec
import pytest

from replay.calls import RECORDINGS
from voxthread.core import inputs
from voxthread.core.replay import MachineStarted, Step, replay
from voxthread.core.turn_state import TurnPolicy
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.recordings import read_recording

pytestmark = pytest.mark.replay

NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


def lines(name: str) -> list[bytes]:
    return (RECORDINGS / f"{name}.jsonl").read_bytes().splitlines()


def steps(name: str) -> list[Step]:
    return read_recording(lines(name)).steps()


def test_the_calls_worth_keeping_are_there() -> None:
    assert {"hotel", "hotel_by_voice", "barge_in", "backchannel", "takeover", "resumed_line"} <= set(NAMES)
    assert "quarantined" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_call_has_the_same_effects(name: str) -> None:
    assert replay(steps(name)) is None


@pytest.mark.parametrize("name", NAMES)
def test_any_other_digest_is_the_first_difference(name: str) -> None:
    recorded = steps(name)
    number = len(recorded) // 2
    recorded[number] = Step(
        position=7, now=recorded[number].now, told=recorded[number].told, effects_digest="00000000"
    )
    difference = replay(recorded)
    assert difference is not None
    assert difference.step is recorded[number]


def test_under_another_policy_the_call_goes_otherwise() -> None:
    recorded = steps("barge_in")
    recorded[0] = Step(
        position=0,
        now=recorded[0].now,
        told=MachineStarted(policy=TurnPolicy(overlap_ms=5_000)),
        effects_digest=recorded[0].effects_digest,
    )
    difference = replay(recorded)
    assert difference is not None
    assert difference.step.position > 0


def test_a_takeover_left_out_is_missed() -> None:
    values = lines("takeover")
    started = [number for number, value in enumerate(values) if b'"type":"MachineStarted"' in value]
    assert len(started) == 3
    with pytest.raises(MalformedRecordError, match="is missing"):
        read_recording(values[: started[1]] + values[started[1] + 1 :]).steps()


def test_what_an_owner_wrote_behind_its_successors_back_never_happened() -> None:
    values = lines("takeover")
    recorded = read_recording(values)
    second = next(number for number, (record, _) in enumerate(recorded.inputs) if record.epoch == 2)
    last = msgspec.json.decode(values[second - 1])
    late = msgspec.json.encode({**last, "seq": last["seq"] + 1, "type": "InterruptReceived", "data": {}})
    with_late = read_recording([*values[:second], late, *values[second:]])
    assert with_late.values == recorded.values
    after = read_recording([*values[: second + 1], late, *values[second + 1 :]])
    assert after.values == recorded.values


def test_records_stored_twice_count_once() -> None:
    values = lines("hotel")
    assert read_recording([each for value in values for each in (value, value)]).values == values


def test_inputs_of_an_older_version_are_read_but_not_compared() -> None:
    old = b'{"session_id":"s","epoch":0,"seq":1,"now":5,"in_position":2,"type":"SpeechStarted","data":{},"v":1}'
    recording = read_recording([old])
    assert recording.inputs[0][1] == inputs.SpeechStarted()
    with pytest.raises(MalformedRecordError, match="without its effects"):
        recording.steps()
