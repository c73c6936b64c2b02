"""A caller whose connection is lost and comes back: nothing is said twice but a word, and nothing to nobody."""

import pytest

from turn_scene import POLICY, Scene, kinds
from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core import inputs as i
from voxthread.core.playout import HeardLedger
from voxthread.core.turn_resume import resume
from voxthread.core.turn_state import State
from voxthread.core.turns import TurnMachine

pytestmark = pytest.mark.unit


def speaking() -> tuple[Scene, int]:
    scene = Scene()
    scene.says("what time is breakfast")
    scene.waits(1_000)
    return scene, scene.agent_speaks("Breakfast is at seven.", "Dinner is at eight.", clause_ms=2_000)


def rewound_to(done: list[do.Effect]) -> tuple[int, int]:
    rewound = next(effect for effect in done if isinstance(effect, do.RewindReply))
    return rewound.turn_id, rewound.to_ms


def test_speaking_line_lost_and_resumed_goes_on_from_the_last_word_heard() -> None:
    scene, turn_id = speaking()
    scene.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=1_900))
    assert scene.hears(i.LineLost(heard_turn_id=turn_id, heard_ms=1_200)) == []
    scene.waits(10_000)
    done = scene.hears(i.LineResumed())
    assert rewound_to(done) == (turn_id, 1_180)  # "at" begins at character 13 of 22
    assert scene.published()[-1] == events.SessionResumed(away_ms=10_000)
    assert scene.machine.state is State.SPEAKING


def test_speaking_line_resumed_says_so_after_the_reply() -> None:
    scene, turn_id = speaking()
    scene.hears(i.LineLost(), i.LineResumed())
    done = scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=4_000))
    assert next(effect for effect in done if isinstance(effect, do.StartSpeech)).text == "I lost you."
    assert scene.machine.history[-1].text == "Breakfast is at seven. Dinner is at eight."


def test_speaking_line_resumed_and_interrupted_says_nothing_of_it() -> None:
    scene, _ = speaking()
    scene.hears(i.LineLost(), i.LineResumed(), i.InterruptReceived())
    assert scene.machine.state is State.LISTENING


def test_speaking_line_away_too_long_keeps_what_was_heard() -> None:
    scene, turn_id = speaking()
    scene.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=2_000), i.LineLost())
    done = scene.waits(POLICY.line_ms)
    assert "agent.interrupted" in kinds(done)
    assert scene.machine.history[-1].text == "Breakfast is at seven."
    assert kinds(scene.hears(i.LineResumed())) == ["session.resumed", "StartSpeech"]


def test_speaking_line_lost_what_is_played_to_nobody_is_not_heard() -> None:
    scene, turn_id = speaking()
    scene.hears(
        i.LineLost(heard_turn_id=turn_id, heard_ms=20),
        i.PlayoutAdvanced(turn_id=turn_id, played_ms=2_000),
        i.PlayoutDrained(turn_id=turn_id, played_ms=4_000),
    )
    assert scene.machine.state is State.SPEAKING
    assert rewound_to(scene.hears(i.LineResumed())) == (turn_id, 0)


def test_speaking_line_lost_before_the_reply_began_is_heard_from_its_beginning() -> None:
    scene, turn_id = speaking()
    scene.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=1_900))
    scene.hears(i.LineLost(heard_turn_id=turn_id - 1, heard_ms=900))
    assert rewound_to(scene.hears(i.LineResumed())) == (turn_id, 0)


def test_thinking_line_lost_answer_waits_for_the_caller() -> None:
    scene = Scene()
    scene.says("what time is breakfast")
    scene.waits(1_000)
    scene.hears(i.LineLost())
    assert scene.waits(POLICY.first_audio_ms + 1_000) == []
    turn_id = scene.machine.live_turn_id
    assert turn_id is not None
    done = scene.hears(i.LineResumed())
    assert rewound_to(done) == (turn_id, 0)


def test_user_speaking_line_lost_answers_what_was_said() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted())
    scene.waits(800)
    assert "FinishTranscription" in kinds(scene.hears(i.LineLost()))
    scene.hears(i.TranscriptUpdated(utterance_id=1, text="what time is breakfast", final=True))
    scene.waits(2_000)
    assert scene.machine.state is State.THINKING


def test_overlap_line_lost_is_judged_by_its_words_and_held_again() -> None:
    scene, turn_id = speaking()
    scene.hears(i.SpeechStarted())
    assert "FinishTranscription" in kinds(scene.hears(i.LineLost()))
    done = scene.hears(i.LineResumed())
    assert kinds(done) == ["session.resumed", "RewindReply", "HoldPlayout"]
    scene.hears(i.TranscriptUpdated(utterance_id=2, text="mm-hm", final=True))
    assert scene.last(do.ResumePlayout).turn_id == turn_id


def test_listening_line_resumed_says_that_it_was_lost() -> None:
    scene = Scene()
    scene.hears(i.LineLost())
    assert scene.machine.deadline() is None
    scene.hears(i.LineResumed())
    assert scene.last(do.StartSpeech).text == "I lost you."


def test_listening_line_never_lost_resumed_changes_nothing() -> None:
    assert Scene().hears(i.LineResumed()) == []


def test_notice_lost_and_resumed_is_not_announced_by_another() -> None:
    scene = Scene()
    scene.hears(i.LineLost(), i.LineResumed())
    turn_id = scene.agent_speaks("I lost you.")
    scene.hears(i.LineLost(), i.LineResumed())
    scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))
    assert scene.machine.state is State.LISTENING


def test_speaking_audio_waiting_unplayed_is_no_failure_of_the_agent() -> None:
    """The log was away for longer than a reply may stall."""
    scene, turn_id = speaking()
    assert scene.waits(POLICY.stall_ms + 1_000) == []
    scene.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=4_000))
    done = scene.waits(POLICY.stall_ms)
    assert "error" in kinds(done)


def test_line_lost_survives_a_takeover() -> None:
    scene, turn_id = speaking()
    scene.hears(i.LineLost())
    snapshot, _ = resume(scene.machine.snapshot(), scene.at + 500)
    successor = TurnMachine(POLICY, snapshot)
    assert successor.is_line_lost
    assert rewound_to(successor.handle(i.LineResumed(), scene.at + 900)) == (turn_id, 0)


def test_word_start_is_never_behind_what_was_played() -> None:
    ledger = HeardLedger()
    ledger.plan("Breakfast is at seven.")
    ledger.plan("Bye.")
    ledger.add_audio(0, 2_000)
    ledger.add_audio(1, 400)
    starts = [ledger.word_start_ms(played_ms) for played_ms in range(0, 2_600, 20)]
    assert all(start <= played_ms for start, played_ms in zip(starts, range(0, 2_600, 20), strict=True))
    assert starts == sorted(starts)
    assert starts[-1] == 2_400
