"""Turns as a caller would tell them; the invariants under random input are in test_turn_properties.py."""

from dataclasses import replace

import pytest

from turn_scene import BROKEN, POLICY, Scene, kinds
from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core import inputs as i
from voxthread.core.history import Message
from voxthread.core.turn_state import State, TurnPolicy

pytestmark = pytest.mark.unit


def test_listening_speech_started_transcribes_a_new_utterance() -> None:
    scene = Scene()
    assert kinds(scene.hears(i.SpeechStarted())) == ["StartTranscription", "user.speech_started"]
    assert scene.machine.state is State.USER_SPEAKING


def test_endpointing_complete_turn_is_answered_once_the_model_says_so() -> None:
    scene = Scene()
    scene.says("what time is breakfast")
    assert scene.machine.state is State.ENDPOINTING
    done = scene.hears(i.EndOfTurnPredicted(utterance_id=1, probability=0.9))
    assert scene.machine.state is State.THINKING
    reply = next(effect for effect in done if isinstance(effect, do.StartReply))
    assert (reply.utterance, reply.history) == ("what time is breakfast", ())


def test_user_speaking_pause_has_words_and_verdict_ready_when_it_is_the_end() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted())
    assert kinds(scene.hears(i.SpeechPaused(silence_ms=96))) == ["FinishTranscription", "PredictEndOfTurn"]
    scene.hears(
        i.TranscriptUpdated(utterance_id=1, text="what time is breakfast", final=True),
        i.EndOfTurnPredicted(utterance_id=1, probability=0.9),
    )
    scene.waits(104)
    done = kinds(scene.hears(i.SpeechStopped(silence_ms=200)))
    assert "StartReply" in done
    assert "FinishTranscription" not in done


def test_user_speaking_pause_within_a_sentence_makes_its_results_void() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted(), i.SpeechPaused(silence_ms=96), i.SpeechContinued())
    scene.hears(
        i.TranscriptUpdated(utterance_id=1, text="my number is", final=True),
        i.EndOfTurnPredicted(utterance_id=1, probability=0.9),
    )
    done = scene.hears(i.SpeechStopped(silence_ms=200))
    assert kinds(done) == ["FinishTranscription", "user.speech_stopped", "PredictEndOfTurn"]
    assert scene.machine.state is State.ENDPOINTING


def test_user_speaking_text_of_an_earlier_pause_is_not_taken_for_that_of_the_last() -> None:
    scene = Scene()
    scene.hears(
        i.SpeechStarted(), i.SpeechPaused(silence_ms=96), i.SpeechContinued(), i.SpeechPaused(silence_ms=96)
    )
    scene.hears(
        i.TranscriptUpdated(utterance_id=1, text="my number", final=True),
        i.EndOfTurnPredicted(utterance_id=1, probability=0.9),
        i.SpeechStopped(silence_ms=200),
    )
    assert scene.machine.state is State.ENDPOINTING
    scene.hears(i.TranscriptUpdated(utterance_id=1, text="my number is five", final=True))
    assert scene.last(do.StartReply).utterance == "my number is five"


def test_endpointing_unfinished_turn_waits_longer_and_asks_again() -> None:
    scene = Scene()
    scene.says("my number is")
    scene.hears(i.EndOfTurnPredicted(utterance_id=1, probability=0.1))
    done = scene.waits(1_200)
    assert scene.machine.state is State.ENDPOINTING
    assert kinds(done) == ["PredictEndOfTurn"] * 6
    scene.waits(200)
    assert scene.machine.state is State.THINKING


def test_endpointing_speech_started_continues_the_same_utterance() -> None:
    scene = Scene()
    scene.says("my number is")
    done = scene.hears(i.SpeechStarted())
    assert scene.machine.state is State.USER_SPEAKING
    assert "StartTranscription" not in kinds(done)


def test_endpointing_stale_final_text_does_not_end_a_continued_turn() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted(), i.SpeechStopped(silence_ms=200), i.SpeechStarted())
    scene.hears(i.TranscriptUpdated(utterance_id=1, text="my number", final=True))
    scene.hears(i.SpeechStopped(silence_ms=200))
    scene.waits(1_000)
    assert scene.machine.state is State.ENDPOINTING


def test_endpointing_cough_is_not_answered() -> None:
    scene = Scene()
    scene.says("")
    done = scene.waits(2_000)
    assert scene.machine.state is State.LISTENING
    assert "StartReply" not in kinds(done)
    assert "EndTranscription" in kinds(done)


def test_endpointing_no_final_transcript_uses_the_interim_one_after_the_grace() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted(), i.TranscriptUpdated(utterance_id=1, text="hello there", final=False))
    scene.hears(i.SpeechStopped(silence_ms=200))
    scene.waits(500 + POLICY.stt_grace_ms)
    assert scene.last(do.StartReply).utterance == "hello there"


def test_endpointing_no_transcript_at_all_is_an_error_and_an_apology() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted(), i.SpeechStopped(silence_ms=200))
    scene.waits(500 + POLICY.stt_grace_ms)
    assert scene.last(do.StartSpeech).text == "Sorry."
    assert "error" in kinds(scene.done)


def test_thinking_speech_started_takes_the_question_back() -> None:
    scene = Scene()
    scene.says("what time is")
    scene.waits(1_000)
    done = scene.hears(i.SpeechStarted())
    assert kinds(done) == ["CancelReply", "FlushPlayout", "user.speech_started"]
    assert scene.machine.history == ()
    scene.hears(i.SpeechStopped(silence_ms=200))
    scene.hears(i.TranscriptUpdated(utterance_id=1, text="what time is breakfast", final=True))
    scene.waits(1_000)
    assert scene.last(do.StartReply).utterance == "what time is breakfast"


def test_speaking_reply_drained_is_remembered_whole() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    turn_id = scene.agent_speaks("Hello to you.", "How can I help?")
    assert scene.machine.state is State.SPEAKING
    scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=2_000))
    assert scene.machine.state is State.LISTENING
    assert scene.machine.history == (
        Message(role="user", text="hello"),
        Message(role="assistant", text="Hello to you. How can I help?"),
    )


def test_overlap_long_speech_interrupts_and_history_keeps_what_was_heard() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    turn_id = scene.agent_speaks("Hello to you.", "How can I help?")
    scene.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=1_500))
    assert kinds(scene.hears(i.SpeechStarted(speech_ms=96)))[0] == "HoldPlayout"
    assert scene.machine.state is State.OVERLAP
    done = scene.waits(POLICY.overlap_ms)
    assert kinds(done) == ["CancelReply", "FlushPlayout", "agent.interrupted"]
    assert scene.machine.state is State.USER_SPEAKING
    assert scene.machine.history[-1].text == "Hello to you. How can"


def test_overlap_backchannel_resumes_and_leaves_no_trace() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    turn_id = scene.agent_speaks("Hello to you.")
    scene.hears(i.SpeechStarted(speech_ms=96), i.SpeechStopped(silence_ms=200))
    done = scene.hears(i.TranscriptUpdated(utterance_id=2, text="Mm-hm.", final=True))
    assert do.ResumePlayout(turn_id=turn_id) in done
    assert scene.machine.state is State.SPEAKING
    scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))
    assert [message.role for message in scene.machine.history] == ["user", "assistant"]


def test_overlap_short_command_interrupts_and_is_answered() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    scene.agent_speaks("Hello to you.")
    scene.hears(i.SpeechStarted(speech_ms=96), i.SpeechStopped(silence_ms=200))
    scene.hears(i.TranscriptUpdated(utterance_id=2, text="Stop.", final=True))
    assert scene.machine.state is State.ENDPOINTING
    scene.waits(500)
    assert scene.last(do.StartReply).utterance == "Stop."


def test_overlap_words_interrupt_before_the_deadline() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    scene.agent_speaks("Hello to you.")
    scene.hears(i.SpeechStarted(speech_ms=96))
    scene.hears(i.TranscriptUpdated(utterance_id=2, text="no wait", final=False))
    assert scene.machine.state is State.USER_SPEAKING


def test_overlap_first_word_misheard_waits_for_the_stop() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    turn_id = scene.agent_speaks("Hello to you.")
    scene.hears(i.SpeechStarted(speech_ms=96))
    scene.hears(i.TranscriptUpdated(utterance_id=2, text="So", final=False))
    assert scene.machine.state is State.OVERLAP
    scene.hears(i.SpeechStopped(silence_ms=200))
    done = scene.hears(i.TranscriptUpdated(utterance_id=2, text="Right.", final=True))
    assert do.ResumePlayout(turn_id=turn_id) in done


def test_overlap_reply_drained_leaves_an_ordinary_utterance() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    turn_id = scene.agent_speaks("Hello to you.")
    scene.hears(i.SpeechStarted(speech_ms=96), i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))
    assert scene.machine.state is State.USER_SPEAKING


def test_thinking_reply_failed_publishes_and_apologises_once() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    done = scene.hears(i.ReplyFailed(turn_id=1, failure=BROKEN))
    assert kinds(done) == ["CancelReply", "FlushPlayout", "error", "EndTranscription", "StartSpeech"]
    done = scene.hears(i.ReplyFailed(turn_id=2, failure=BROKEN))
    assert kinds(done) == ["CancelReply", "FlushPlayout", "error"]
    assert scene.machine.state is State.LISTENING


def test_user_speaking_transcription_failed_waits_for_the_caller_to_stop() -> None:
    scene = Scene()
    scene.hears(i.SpeechStarted())
    assert scene.hears(i.TranscriptionFailed(utterance_id=1, failure=BROKEN)) == []
    done = scene.hears(i.SpeechStopped(silence_ms=200))
    assert "StartSpeech" in kinds(done)


def test_speaking_stalled_reply_fails_at_its_deadline() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    turn_id = scene.agent_speaks("Hello to you.", ends=False)
    scene.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=1_000))
    scene.waits(POLICY.stall_ms)
    assert "reply.stalled" in [
        event.code for event in scene.published() if isinstance(event, events.ErrorOccurred)
    ]


def test_speaking_typed_text_interrupts_and_is_answered() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    scene.agent_speaks("Hello to you.")
    scene.hears(i.TextReceived(text="Where are you?"))
    assert scene.machine.state is State.THINKING
    assert scene.last(do.StartReply).utterance == "Where are you?"


def test_listening_greeting_is_spoken_and_not_timed() -> None:
    scene = Scene()
    scene.hears(i.SpeechRequested(text="Welcome."))
    turn_id = scene.agent_speaks("Welcome.")
    scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))
    assert not [event for event in scene.published() if isinstance(event, events.TurnTiming)]
    assert scene.machine.history == (Message(role="assistant", text="Welcome."),)


def test_listening_idle_caller_is_asked_twice_and_then_left_alone() -> None:
    scene = Scene(replace(POLICY, idle_ms=10_000, idle_prompt="Are you there?"))
    scene.hears(i.SpeechRequested(text="Welcome."))
    for number in (1, 2, 3):
        turn_id = scene.agent_speaks("Some words.")
        scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))
        asked = [effect.text for effect in scene.waits(10_000) if isinstance(effect, do.StartSpeech)]
        assert asked == (["Are you there?"] if number < 3 else [])


def test_listening_idle_caller_who_answers_is_asked_again_later() -> None:
    scene = Scene(replace(POLICY, idle_ms=10_000, idle_prompt="Are you there?", max_idle_prompts=1))
    for _ in range(2):
        scene.says("yes I am")
        scene.waits(1_000)
        turn_id = scene.agent_speaks("Good.")
        scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))
        assert "StartSpeech" in kinds(scene.waits(10_000))
        turn_id = scene.agent_speaks("Are you there?")
        scene.hears(i.PlayoutDrained(turn_id=turn_id, played_ms=1_000))


def test_stale_results_change_nothing_and_are_counted() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    scene.hears(i.InterruptReceived())
    assert scene.hears(i.ReplyDelta(turn_id=1, text="late"), i.PlayoutAdvanced(turn_id=1, played_ms=5)) == []
    assert scene.machine.stale_inputs == 2


def test_any_session_ended_closes_and_absorbs() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    done = scene.hears(i.SessionEnded(reason="hung_up"))
    assert kinds(done) == ["CancelReply", "FlushPlayout", "EndTranscription", "session.closed", "EndSession"]
    assert scene.hears(i.SpeechStarted(), i.SessionEnded(reason="again")) == []
    assert scene.machine.deadline() is None


def test_stages_of_a_turn_are_published_in_order() -> None:
    scene = Scene()
    scene.says("hello")
    scene.waits(1_000)
    scene.agent_speaks("Hello to you.")
    stages = [event.stage for event in scene.published() if isinstance(event, events.TurnTiming)]
    assert stages == [
        "transcript",
        "turn_decided",
        "llm_first_token",
        "first_clause",
        "first_audio",
        "sent",
        "heard",
    ]


class TestSpeculation:
    """Nothing speculative is heard, published or remembered before it is committed."""

    def scene(self) -> Scene:
        return Scene(TurnPolicy(endpoint=POLICY.endpoint, speculate=True))

    def test_endpointing_final_transcript_starts_a_reply_in_secret(self) -> None:
        scene = self.scene()
        done = scene.says("hello")
        assert do.StartReply(turn_id=1, history=(), utterance="hello", speculative=True) in done
        scene.hears(i.ReplyDelta(turn_id=1, text="Hello."), i.ClausePlanned(turn_id=1, text="Hello."))
        assert scene.machine.history == ()
        assert "agent.reply_delta" not in kinds(scene.done)

    def test_endpointing_confirmed_turn_commits_it(self) -> None:
        scene = self.scene()
        scene.says("hello")
        scene.hears(i.ReplyDelta(turn_id=1, text="Hello."))
        done = scene.hears(i.EndOfTurnPredicted(utterance_id=1, probability=0.9))
        assert do.CommitReply(turn_id=1) in done
        assert "StartReply" not in kinds(done)
        assert "agent.reply_delta" in kinds(done)

    def test_endpointing_first_audio_made_is_sent_when_the_turn_is_confirmed(self) -> None:
        scene = self.scene()
        scene.says("hello")
        scene.hears(i.ReplyDelta(turn_id=1, text="Hello."), i.ClausePlanned(turn_id=1, text="Hello."))
        scene.waits(50)
        scene.hears(i.AudioSynthesized(turn_id=1, clause=0, duration_ms=300))
        scene.waits(100)
        scene.hears(i.EndOfTurnPredicted(utterance_id=1, probability=0.9))
        stages = {event.stage: event.ms for event in scene.published() if isinstance(event, events.TurnTiming)}
        assert stages["sent"] == stages["turn_decided"] == stages["first_audio"] + 100

    def test_endpointing_speech_started_withdraws_it(self) -> None:
        scene = self.scene()
        scene.says("hello")
        assert do.WithdrawReply(turn_id=1) in scene.hears(i.SpeechStarted())
        assert scene.hears(i.ReplyDelta(turn_id=1, text="Hello.")) == []

    def test_endpointing_other_words_replace_it(self) -> None:
        scene = self.scene()
        scene.says("hello")
        done = scene.hears(i.TranscriptUpdated(utterance_id=1, text="hello there", final=True))
        assert do.WithdrawReply(turn_id=1) in done
        assert do.StartReply(turn_id=2, history=(), utterance="hello there", speculative=True) in done


def test_endpointing_words_that_nobody_stops_at_outwait_a_model_that_believes_in_the_end() -> None:
    patient = replace(POLICY.endpoint, dangling_ms=1_000, dangling_words=frozenset({"is"}))
    scene = Scene(replace(POLICY, endpoint=patient))
    scene.says("My number is")
    assert kinds(scene.hears(i.EndOfTurnPredicted(utterance_id=1, probability=0.9))) == []
    assert "StartReply" not in kinds(scene.waits(700))
    assert "StartReply" in kinds(scene.waits(200))


def test_endpointing_words_that_come_late_take_the_endpoint_back() -> None:
    patient = replace(POLICY.endpoint, open_ms=1_000)
    scene = Scene(replace(POLICY, endpoint=patient))
    scene.hears(i.SpeechStarted())
    scene.hears(i.SpeechStopped(silence_ms=200))
    scene.hears(i.EndOfTurnPredicted(utterance_id=1, probability=0.9))
    scene.waits(300)
    assert kinds(
        scene.hears(i.TranscriptUpdated(utterance_id=1, text="We arrive on Friday...", final=True))
    ) == ["user.transcript"]
    assert "StartReply" not in kinds(scene.waits(400))
    assert "StartReply" in kinds(scene.waits(200))


def test_endpointing_words_known_at_the_stop_are_answered_speculatively() -> None:
    scene = Scene(replace(POLICY, speculate=True))
    scene.hears(i.SpeechStarted(), i.SpeechPaused(silence_ms=96))
    scene.hears(i.TranscriptUpdated(utterance_id=1, text="Is there a pool?", final=True))
    assert "StartReply" in kinds(scene.hears(i.SpeechStopped(silence_ms=200)))
    assert scene.last(do.StartReply).speculative
