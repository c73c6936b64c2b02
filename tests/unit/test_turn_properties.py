"""The turn machine under arbitrary input: what must hold whatever callers, models and networks do."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core import inputs as i
from voxthread.core.failures import Failure
from voxthread.core.turn_state import REPLYING, State, TurnPolicy
from voxthread.core.turns import TurnMachine

pytestmark = pytest.mark.unit

BROKEN = Failure(code="any.failure", stage="llm", retryable=True, detail="it broke")
RESTING = (State.LISTENING, State.CLOSED)

# Ids are offsets from the newest one, so that most inputs are live and some are stale.
_age = st.sampled_from([0, 0, 0, 0, 1, 2])
_words = st.sampled_from(["", "hi", "mm-hm", "stop", "book a room", "five five five"])
_step = st.one_of(
    st.just(("started",)),
    st.just(("paused",)),
    st.just(("continued",)),
    st.just(("stopped",)),
    st.just(("deadline",)),
    st.tuples(st.just("predicted"), _age, st.sampled_from([0.1, 0.9])),
    st.tuples(st.just("transcript"), _age, _words, st.booleans()),
    st.tuples(st.just("stt_failed"), _age),
    st.tuples(st.just("typed"), _words.filter(bool)),
    st.just(("interrupt",)),
    st.just(("greet",)),
    st.tuples(st.just("delta"), _age),
    st.tuples(st.just("clause"), _age),
    st.tuples(st.just("audio"), _age, st.integers(20, 2_000)),
    st.tuples(st.just("ended"), _age),
    st.tuples(st.just("failed"), _age),
    st.tuples(st.just("played"), _age, st.integers(0, 3_000)),
    st.tuples(st.just("drained"), _age),
    st.tuples(st.just("line_lost"), _age, st.integers(0, 3_000)),
    st.just(("line_resumed",)),
)
_steps = st.lists(st.tuples(st.sampled_from([0, 20, 100, 300, 700, 5_000]), _step), max_size=120)
_policies = st.builds(
    TurnPolicy,
    speculate=st.booleans(),
    apology=st.sampled_from(["", "Sorry."]),
    idle_ms=st.sampled_from([0, 5_000]),
    idle_prompt=st.just("Are you there?"),
    line_notice=st.sampled_from(["", "I lost you."]),
    backchannels=st.just(frozenset({"mm-hm"})),
)


_PLAIN: dict[str, i.Input | None] = {
    "started": i.SpeechStarted(speech_ms=96),
    "paused": i.SpeechPaused(silence_ms=96),
    "continued": i.SpeechContinued(),
    "stopped": i.SpeechStopped(silence_ms=192),
    "deadline": None,
    "interrupt": i.InterruptReceived(),
    "greet": i.SpeechRequested(text="Hello."),
    "line_resumed": i.LineResumed(),
}


@dataclass
class Run:
    """A machine, everything it was told and did, and the invariants checked after each step."""

    machine: TurnMachine
    now: int = 1_000_000
    told: list[tuple[i.Input | None, int]] = field(default_factory=list)
    done: list[do.Effect] = field(default_factory=list)
    newest_turn: int = 0
    newest_utterance: int = 0
    clauses: dict[int, int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    secret: set[int] = field(default_factory=set)

    def tell(self, fact: i.Input | None) -> None:
        self.told.append((fact, self.now))
        done = self.machine.handle_deadline(self.now) if fact is None else self.machine.handle(fact, self.now)
        self.done += done
        for effect in done:
            self._watch(effect)
        state, turn_id = self.machine.state, self.machine.live_turn_id
        assert (turn_id is not None) == (state in REPLYING)
        assert turn_id not in self.dead
        assert self.machine.deadline() is not None or state in RESTING
        assert not any(message.role == "user" and not message.text for message in self.machine.history)

    def _watch(self, effect: do.Effect) -> None:
        match effect:
            case do.StartReply(turn_id=turn_id, speculative=speculative):
                assert turn_id > self.newest_turn
                self.newest_turn = turn_id
                if speculative:
                    self.secret.add(turn_id)
            case do.StartSpeech(turn_id=turn_id):
                assert turn_id > self.newest_turn
                self.newest_turn = turn_id
            case do.CommitReply(turn_id=turn_id):
                self.secret.remove(turn_id)
                assert turn_id not in self.dead
            case do.CancelReply(turn_id=turn_id):
                assert turn_id not in self.secret
                self.dead.add(turn_id)
            case do.WithdrawReply(turn_id=turn_id):
                self.secret.remove(turn_id)
                self.dead.add(turn_id)
            case do.StartTranscription(utterance_id=utterance_id):
                self.newest_utterance = utterance_id
            case do.HoldPlayout(turn_id=turn_id) | do.ResumePlayout(turn_id=turn_id):
                assert turn_id not in self.dead
                assert turn_id not in self.secret
            case do.RewindReply(turn_id=turn_id):
                assert turn_id == self.machine.live_turn_id
            case do.Publish(event=event) if not isinstance(event, events.ErrorOccurred):
                assert event.turn_id not in self.secret
            case _:
                pass

    def step(self, step: tuple[object, ...]) -> None:  # noqa: PLR0912 - a table of constructors
        match step:
            case (str(name),):
                self.tell(_PLAIN[name])
            case ("predicted", int(age), float(probability)):
                self.tell(i.EndOfTurnPredicted(utterance_id=self.utterance(age), probability=probability))
            case ("transcript", int(age), str(text), bool(final)):
                self.tell(i.TranscriptUpdated(utterance_id=self.utterance(age), text=text, final=final))
            case ("stt_failed", int(age)):
                self.tell(i.TranscriptionFailed(utterance_id=self.utterance(age), failure=BROKEN))
            case ("typed", str(text)):
                self.tell(i.TextReceived(text=text))
            case ("delta", int(age)):
                self.tell(i.ReplyDelta(turn_id=self.turn(age), text="word "))
            case ("clause", int(age)):
                turn_id = self.turn(age)
                self.clauses[turn_id] = self.clauses.get(turn_id, 0) + 1
                self.tell(i.ClausePlanned(turn_id=turn_id, text="Some words of it."))
            case ("audio", int(age), int(duration_ms)):
                turn_id = self.turn(age)
                if planned := self.clauses.get(turn_id):
                    self.tell(i.AudioSynthesized(turn_id=turn_id, clause=planned - 1, duration_ms=duration_ms))
            case ("ended", int(age)):
                self.tell(i.ReplyEnded(turn_id=self.turn(age)))
            case ("failed", int(age)):
                self.tell(i.ReplyFailed(turn_id=self.turn(age), failure=BROKEN))
            case ("played", int(age), int(played_ms)) if self.turn(age) not in self.secret:
                self.tell(i.PlayoutAdvanced(turn_id=self.turn(age), played_ms=played_ms))
            case ("drained", int(age)) if self.turn(age) not in self.secret:
                self.tell(i.PlayoutDrained(turn_id=self.turn(age), played_ms=1_000))
            case ("line_lost", int(age), int(heard_ms)):
                self.tell(i.LineLost(heard_turn_id=self.turn(age), heard_ms=heard_ms))
                assert self.machine.state is not State.USER_SPEAKING or self.machine.is_line_lost
            case _:
                pass

    def turn(self, age: int) -> int:
        return max(0, self.newest_turn - age)

    def utterance(self, age: int) -> int:
        return max(0, self.newest_utterance - age)


def run(policy: TurnPolicy, steps: list[tuple[int, tuple[object, ...]]]) -> Run:
    a_run = Run(TurnMachine(policy))
    for elapsed_ms, step in steps:
        a_run.now += elapsed_ms
        a_run.step(step)
    return a_run


@given(_policies, _steps)
def test_any_run_keeps_the_invariants(policy: TurnPolicy, steps: list[tuple[int, tuple[object, ...]]]) -> None:
    run(policy, steps)


@given(_policies, _steps)
def test_any_run_replayed_gives_identical_effects(
    policy: TurnPolicy, steps: list[tuple[int, tuple[object, ...]]]
) -> None:
    first = run(policy, steps)
    again, done = TurnMachine(policy), []
    for fact, now in first.told:
        done += again.handle_deadline(now) if fact is None else again.handle(fact, now)
    assert done == first.done
    assert again.history == first.machine.history


@given(_policies, _steps)
def test_any_run_left_alone_comes_to_rest(
    policy: TurnPolicy, steps: list[tuple[int, tuple[object, ...]]]
) -> None:
    """Deadlines alone, with nobody answering, end every wait."""
    a_run = run(policy, steps)
    for _ in range(40):
        deadline = a_run.machine.deadline()
        if deadline is None:
            break
        a_run.now = max(a_run.now, deadline)
        a_run.tell(None)
    assert a_run.machine.state in RESTING


@given(_policies, _steps)
def test_any_run_ended_is_closed_for_good(
    policy: TurnPolicy, steps: list[tuple[int, tuple[object, ...]]]
) -> None:
    a_run = run(policy, steps)
    a_run.tell(i.SessionEnded(reason="test"))
    assert a_run.machine.state is State.CLOSED
    before = len(a_run.done)
    for _, step in steps:
        a_run.step(step)
    assert len(a_run.done) == before
