"""A recorded call held again: the same caller, today's models, which may answer otherwise or at other times."""

from dataclasses import replace

import pytest

from faked_call import SESSION_ID
from replay.calls import BREAKFAST, PARKING, WORDS, Call, barge_in, faked_engines, hold
from voxthread.app.recorded_caller import Await, Pause, script_of
from voxthread.app.rerun import compared, hold_again
from voxthread.config import Config
from voxthread.core import events
from voxthread.core.replay import replay
from voxthread.orchestrator.inbox import Arrived
from voxthread.orchestrator.recording import read_arrivals, read_session
from voxthread.testing.listening import ScriptedSpeechToText
from voxthread.testing.speaking import ToneTextToSpeech
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord

pytestmark = pytest.mark.replay

CONFIG = Config()
OPENED = facts.SessionOpened(agent="hotel", principal="test", via="whip", created_at_ms=0)
CONNECTED = facts.PeerConnected(receives_audio=True)
END = facts.EndCommand(reason="hung_up")


def sound(number: int, *, at_ms: int | None = None) -> AudioRecord:
    """The `number`th 60 ms of a call."""
    timestamp = (60 * number if at_ms is None else at_ms) * 48
    return AudioRecord(epoch=0, seq=number, timestamp=timestamp, packets=(b"x",) * 3)


def progress(turn_id: int, state: str) -> facts.PlayoutProgress:
    return facts.PlayoutProgress(turn_id=turn_id, played_ms=20, queued_ms=0, state=state)  # type: ignore[arg-type]


def arrivals(*contents: object) -> list[Arrived]:
    return [Arrived(position, content) for position, content in enumerate(contents)]  # type: ignore[arg-type]


def test_a_caller_waits_for_the_replies_there_had_been_before_speaking() -> None:
    sounds = [sound(number) for number in range(20)]
    recorded = arrivals(OPENED, CONNECTED, progress(1, "playing"), progress(1, "drained"), *sounds, END)
    onset = 4 + 15
    script = script_of(recorded, {onset}, {3})
    heard_before = script.index(Await(1, 1)) - 2
    assert heard_before == 16 - 10
    assert script == [OPENED, CONNECTED, *sounds[:6], Await(1, 1), *sounds[6:], Await(1, 1), END]


def test_a_barge_in_waits_for_the_reply_to_begin_only() -> None:
    recorded = arrivals(
        OPENED, progress(1, "drained"), progress(2, "playing"), sound(0), progress(2, "flushed")
    )
    assert script_of(recorded, {3}, set())[1] == Await(1, 1)


def test_a_caller_waits_behind_the_end_of_what_was_said_before() -> None:
    sounds = [sound(number) for number in range(10)]
    stop, onset = 1 + 5, 1 + 8
    script = script_of(arrivals(OPENED, *sounds), {onset}, {stop})
    assert script[1:11] == [*sounds[:6], Await(0, 0), *sounds[6:9]]


def test_a_gap_in_the_audio_is_a_pause_and_a_new_line_is_none() -> None:
    recorded = arrivals(
        OPENED, sound(0), sound(1, at_ms=500), facts.LegResumed(media_id="m"), sound(2, at_ms=0)
    )
    assert script_of(recorded, set(), set())[:5] == [
        OPENED,
        sound(0),
        Pause(440),
        sound(1, at_ms=500),
        sound(2, at_ms=0),
    ]


def test_a_call_nobody_ended_is_ended_behind_its_last_reply() -> None:
    script = script_of(arrivals(OPENED, CONNECTED, progress(1, "playing")), set(), set())
    assert script[2:] == [Await(1, 1), facts.EndCommand(reason="recording_over")]


@pytest.mark.anyio
async def test_the_same_models_hear_and_say_the_same() -> None:
    bus = await hold(barge_in)
    session = await read_session(bus, SESSION_ID)
    again = await hold_again(CONFIG, faked_engines(), session, await read_arrivals(bus, session))
    assert compared(session, again) == {"transcripts_equal": True, "replies_equal": True, "differences": []}
    assert any(isinstance(envelope.event, events.AgentInterrupted) for _, envelope in again.events)
    assert replay(again.recording.steps()) is None


@pytest.mark.anyio
async def test_models_that_hear_otherwise_and_speak_slower_show_every_difference() -> None:
    async def two_questions(call: Call) -> None:
        for question in (BREAKFAST, PARKING):
            call.speak(question)
            await call.next(events.AgentSpeechStopped)

    bus = await hold(two_questions)
    session = await read_session(bus, SESSION_ID)
    others = replace(
        faked_engines(),
        stt=ScriptedSpeechToText("Is there parking?", "Is there parking?"),
        tts=ToneTextToSpeech(ms_per_character=25),
    )
    again = await hold_again(CONFIG, others, session, await read_arrivals(bus, session))
    result = compared(session, again)
    assert not result["transcripts_equal"]
    assert not result["replies_equal"]
    (difference,) = result["differences"]
    assert difference["turn"] == 2
    assert difference["recorded"]["user_text"] == WORDS[BREAKFAST]
    assert difference["rerun"]["user_text"] == WORDS[PARKING]
