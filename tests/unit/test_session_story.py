"""A session's story as its events tell it: who said what, what was heard, what went wrong, how it ended."""

import pytest

from voxthread.core import events
from voxthread.core.story import SessionStory

pytestmark = pytest.mark.unit

ID = "session_1753590741399040_5cc15fe6"
ALIAS = "session_1753590741399_qlgq6cfjw"
CREATED = events.SessionCreated(agent="hotel", partition=3, via="whip")


def story_of(*told: events.Event, alias: str = ID) -> SessionStory:
    """Each event a second after the one before."""
    story = SessionStory(ID)
    for number, event in enumerate(told):
        story.add(event, number * 1_000, frontend_session_id=alias)
    return story


def test_a_finished_session_says_when_it_began_and_how_it_ended() -> None:
    story = story_of(
        CREATED,
        events.SessionBound(),
        events.SessionConnected(receives_audio=True),
        events.SessionDisconnected(reason="no_rtp"),
        events.OrchestratorTakeover(gap_ms=40),
        events.SessionClosed(reason="expired"),
        alias=ALIAS,
    )
    assert (story.created_at_ms, story.ended_at_ms, story.end_reason) == (0, 5_000, "expired")
    assert (story.agent, story.via, story.frontend_session_id) == ("hotel", "whip", ALIAS)
    assert [(each.type, each.detail) for each in story.milestones] == [
        ("session.created", "hotel via whip"),
        ("session.bound", ALIAS),
        ("session.connected", ""),
        ("session.disconnected", "no_rtp"),
        ("orchestrator.takeover", "after 40 ms"),
        ("session.closed", "expired"),
    ]
    assert story.components == ["gateway", "orchestrator", "media"]


def test_a_turn_holds_what_was_asked_said_and_heard_and_how_long_each_stage_took() -> None:
    (turn,) = story_of(
        events.UserTranscript(utterance_id=1, text="is there", final=False),
        events.UserTranscript(turn_id=1, utterance_id=1, text="Is there parking?", final=True),
        events.TurnTiming(turn_id=1, stage="transcript", ms=330),
        events.AgentReplyDelta(turn_id=1, text="Yes, "),
        events.AgentReplyDelta(turn_id=1, text="behind the house."),
        events.AgentSpeechStarted(turn_id=1),
        events.AgentSpeechStopped(turn_id=1, heard_text="Yes, behind the house.", played_ms=1_400),
    ).turns
    assert (turn.user_text, turn.agent_text) == ("Is there parking?", "Yes, behind the house.")
    assert (turn.heard_text, turn.played_ms, turn.is_interrupted) == ("Yes, behind the house.", 1_400, False)
    assert (turn.began_at_ms, turn.ended_at_ms, turn.stages_ms) == (1_000, 6_000, {"transcript": 330})


def test_an_interrupted_turn_says_how_far_it_was_heard() -> None:
    (turn,) = story_of(
        events.AgentReplyDelta(turn_id=1, text="Breakfast is from seven to ten."),
        events.AgentInterrupted(turn_id=1, heard_text="Breakfast is"),
    ).turns
    assert (turn.heard_text, turn.is_interrupted) == ("Breakfast is", True)


def test_a_turn_taken_back_loses_its_question_to_the_turn_that_answers_it() -> None:
    first, second = story_of(
        events.UserTranscript(turn_id=1, utterance_id=1, text="Is there", final=True),
        events.AgentReplyDelta(turn_id=1, text="Is there what?"),
        events.UserTranscript(turn_id=2, utterance_id=1, text="Is there parking?", final=True),
    ).turns
    assert (first.user_text, first.heard_text) == ("", None)
    assert second.user_text == "Is there parking?"


def test_warnings_are_the_errors_and_the_ids_refused() -> None:
    error = events.ErrorOccurred(
        turn_id=2, code="llm.timeout", stage="llm", retryable=True, message="no answer"
    )
    story = story_of(CREATED, events.SessionIdInvalid(rule="too_short"), error)
    assert [(each.code, each.stage, each.turn_id) for each in story.warnings] == [
        ("too_short", "gateway", None),
        ("llm.timeout", "llm", 2),
    ]
    assert story.components == ["gateway", "orchestrator", "llm"]
