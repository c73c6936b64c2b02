"""A conversation taken over in its middle goes on as if nothing had happened."""

from copy import copy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unit.test_turn_properties import Run, _steps, run
from voxthread.core import effects as do
from voxthread.core import inputs as i
from voxthread.core.playout import Clause
from voxthread.core.turn_resume import resume
from voxthread.core.turn_state import State, TurnPolicy, TurnSnapshot
from voxthread.core.turns import TurnMachine

pytestmark = pytest.mark.unit

POLICY = TurnPolicy(apology="Sorry.", backchannels=frozenset({"mm-hm"}))
Steps = list[tuple[int, tuple[object, ...]]]


@given(_steps, _steps)
def test_any_run_taken_over_does_the_same_from_there(before: Steps, after: Steps) -> None:
    first = run(POLICY, before)
    snapshot = first.machine.snapshot()
    owed = snapshot.utterance.texts_owed if snapshot.utterance else 0
    snapshot, effects = resume(snapshot, snapshot.at_ms)
    # The transcription begins anew, and owes what it is asked for now and nothing else.
    assume(owed == sum(isinstance(effect, do.FinishTranscription) for effect in effects))
    second: Run = copy(first)
    second.machine = TurnMachine(POLICY, snapshot)
    second.clauses = dict(first.clauses)
    second.dead, second.secret = set(first.dead), set(first.secret)
    second.told, second.done = [], []
    first.told, first.done = [], []
    for elapsed_ms, step in after:
        for each in (first, second):
            each.now += elapsed_ms
            each.step(step)
    assert second.done == first.done
    assert second.machine.snapshot() == first.machine.snapshot()


@given(_steps, st.integers(0, 100_000))
def test_any_run_time_without_an_owner_passes_for_no_deadline(before: Steps, away_ms: int) -> None:
    a_run = run(POLICY, before)
    deadline = a_run.machine.deadline()
    at_ms = a_run.machine.snapshot().at_ms
    snapshot, _ = resume(a_run.machine.snapshot(), at_ms + away_ms)
    machine = TurnMachine(POLICY, snapshot)
    assert machine.deadline() == (None if deadline is None else deadline + away_ms)


def test_listening_taken_over_flushes_only_what_is_over() -> None:
    _, effects = resume(TurnSnapshot(at_ms=0, turn_count=3), 10)
    assert effects == [do.FlushPlayout(turn_id=3)]


def test_speaking_taken_over_goes_on_with_the_reply() -> None:
    machine = TurnMachine(POLICY)
    machine.handle(i.TextReceived(text="hello"), 10)
    machine.handle(i.ReplyDelta(turn_id=1, text="Hello there."), 20)
    machine.handle(i.ClausePlanned(turn_id=1, text="Hello there."), 20)
    machine.handle(i.AudioSynthesized(turn_id=1, clause=0, duration_ms=400), 30)
    machine.handle(i.PlayoutAdvanced(turn_id=1, played_ms=100), 40)
    snapshot, effects = resume(machine.snapshot(), 50)
    assert snapshot.state is State.SPEAKING
    assert effects == [
        do.ResumeReply(
            turn_id=1,
            history=(),
            utterance="hello",
            speech=None,
            generated_chars=12,
            clauses=(Clause("Hello there.", duration_ms=400),),
            played_ms=100,
        ),
        do.ResumePlayout(turn_id=1),
    ]


def test_endpointing_taken_over_asks_again_for_what_was_asked() -> None:
    machine = TurnMachine(POLICY)
    machine.handle(i.SpeechStarted(), 10)
    machine.handle(i.SpeechStopped(silence_ms=5), 20)
    _, effects = resume(machine.snapshot(), 30)
    assert effects == [
        do.StartTranscription(utterance_id=1),
        do.FinishTranscription(utterance_id=1),
        do.PredictEndOfTurn(utterance_id=1),
    ]


def test_answer_to_typed_words_taken_over_asks_for_no_text_of_speech_that_never_was() -> None:
    machine = TurnMachine(POLICY)
    machine.handle(i.TextReceived(text="What is red?"), 0)
    _, effects = resume(machine.snapshot(), 10)
    assert not any(isinstance(effect, do.FinishTranscription) for effect in effects)
