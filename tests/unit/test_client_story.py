"""Events folded into the story of a call, and the JSON made of it."""

import pytest

from voxthread.client.bench import check_reply, spread, stage_medians
from voxthread.client.call import Reply
from voxthread.client.failures import BenchError
from voxthread.client.script import reply_json
from voxthread.client.story import Story, Turn
from voxthread.core import events
from voxthread.wire.events import Envelope

pytestmark = pytest.mark.unit

ANSWERED = (
    events.UserSpeechStarted(utterance_id=1),
    events.UserTranscript(utterance_id=1, text="what", final=False),
    events.UserSpeechStopped(utterance_id=1),
    events.UserTranscript(turn_id=2, utterance_id=1, text="What time is it?", final=True),
    events.TurnTiming(turn_id=2, stage="llm_first_token", ms=300),
    events.AgentReplyDelta(turn_id=2, text="It is "),
    events.AgentReplyDelta(turn_id=2, text="noon."),
    events.TurnTiming(turn_id=2, stage="first_audio", ms=450),
    events.AgentSpeechStarted(turn_id=2),
    events.AgentSpeechStopped(turn_id=2, heard_text="It is noon.", played_ms=900),
)


def told(*story_events: events.Event) -> Story:
    story = Story()
    for seq, event in enumerate(story_events, start=1):
        story.add(
            Envelope(
                session_id="session_1753590741399040_5cc15fe6",
                frontend_session_id="session_1753590741399_qlgq6cfjw",
                epoch=1,
                seq=seq,
                at_ms=seq,
                event=event,
            ),
            arrival_us=seq * 1_000,
        )
    return story


def answer(*, v2v_ms: float | None = 700.04, cut_in: bool = False, **stages_ms: int) -> Reply:
    turn = Turn(2, 0, user_text="Hi.", agent_text="Hello.", heard_text="Hello.", stages_ms=stages_ms)
    return Reply(turns=(turn,), v2v_ms=v2v_ms, cut_in=cut_in)


def test_an_answered_question_is_told_whole() -> None:
    story = told(*ANSWERED)

    turn = story.turns[2]
    assert turn.user_text == "What time is it?"
    assert turn.agent_text == turn.heard_text == "It is noon."
    assert turn.stages_ms == {"llm_first_token": 300, "first_audio": 450}
    assert turn.has_ended
    assert turn.began_us == 4_000
    assert story.user_transcript == "What time is it?"
    assert story.agent_transcript == "It is noon."
    assert story.events == len(ANSWERED)
    assert not story.user_is_speaking


def test_an_interrupted_turn_keeps_what_was_heard() -> None:
    story = told(
        events.AgentReplyDelta(turn_id=1, text="Welcome to the hotel."),
        events.AgentInterrupted(turn_id=1, heard_text="Welcome"),
    )

    assert story.turns[1].is_interrupted
    assert story.agent_transcript == "Welcome"


def test_an_utterance_answered_anew_belongs_to_the_later_turn() -> None:
    story = told(
        events.UserTranscript(turn_id=2, utterance_id=1, text="What time", final=True),
        events.UserTranscript(turn_id=3, utterance_id=1, text="What time is it?", final=True),
        events.UserTranscript(turn_id=4, utterance_id=2, text="Thanks.", final=True),
    )

    assert [turn.user_text for turn in story.turns_after(0)] == ["", "What time is it?", "Thanks."]
    assert story.user_transcript == "What time is it? Thanks."


def test_a_replayed_event_changes_nothing() -> None:
    story = told(*ANSWERED)
    replayed = Envelope(session_id="s", frontend_session_id="s", epoch=1, seq=6, at_ms=0, event=ANSWERED[5])

    assert not story.add(replayed, arrival_us=0)
    assert story.turns[2].agent_text == "It is noon."
    assert story.events == len(ANSWERED)


def test_the_end_and_errors_are_noted() -> None:
    story = told(
        events.ErrorOccurred(code="llm.timeout", stage="llm", retryable=True, message="slow"),
        events.SessionClosed(reason="client_deleted"),
    )

    assert [error.code for error in story.errors] == ["llm.timeout"]
    assert story.closed_because == "client_deleted"


def test_reply_json_joins_what_the_caller_said_over_several_turns() -> None:
    first = Turn(2, 0, user_text="What time", heard_text="", is_interrupted=True)
    second = Turn(3, 0, user_text="is breakfast?", agent_text="At seven.", heard_text="At seven.")
    second.stages_ms["transcript"] = 90

    assert reply_json(Reply(turns=(first, second), v2v_ms=512.345, cut_in=True)) == {
        "turn_id": 3,
        "user_text": "What time is breakfast?",
        "agent_text": "At seven.",
        "heard_text": "At seven.",
        "v2v_ms": 512.3,
        "stages": {"transcript": 90},
        "cut_in": True,
    }


def test_a_reply_by_the_model_counts() -> None:
    check_reply(answer(llm_first_token=300, first_audio=450))


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (answer(first_audio=450), "bench.no_llm"),
        (answer(llm_first_token=300, first_audio=200), "bench.filler"),
        (answer(llm_first_token=300, first_audio=450, cut_in=True), "bench.cut_in"),
        (answer(llm_first_token=300, first_audio=450, v2v_ms=None), "bench.silent"),
    ],
)
def test_a_reply_that_measures_nothing_fails_the_benchmark(reply: Reply, code: str) -> None:
    with pytest.raises(BenchError) as failure:
        check_reply(reply)
    assert failure.value.code == code


def test_spread_of_known_values() -> None:
    assert spread([100.0, 200.0, 300.0]) == {
        "median": 200.0,
        "p95": 290.0,
        "min": 100.0,
        "max": 300.0,
        "all": [100.0, 200.0, 300.0],
    }


def test_stage_medians_are_in_order_of_time() -> None:
    replies = [answer(first_audio=400, llm_first_token=300), answer(first_audio=600, llm_first_token=200)]

    assert list(stage_medians(replies).items()) == [("llm_first_token", 250.0), ("first_audio", 500.0)]
