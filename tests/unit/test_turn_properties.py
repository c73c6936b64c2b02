"""The turn machine under arbitrary input: what must hold whatever callers, models and networks do."""

import re
from dataclasses import dataclass, field
from itertools import zip_longest

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core import inputs as i
from voxthread.core.failures import Failure
from voxthread.core.history import Message
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
_timed_step = st.tuples(st.sampled_from([0, 20, 100, 300, 700, 5_000]), _step)

# A guess takes several steps in a row, which single ones hit upon in one run of hundreds.
_CONFIRMED = ((0, ("predicted", 0, 0.9)), (300, ("deadline",)))
_OTHER_WORDS = (20, ("transcript", 0, "five five five", True))
_guess = st.tuples(
    st.just(((0, ("says", "book a room")), (20, ("made", 500)))),
    st.sampled_from([(), _CONFIRMED, (_OTHER_WORDS, *_CONFIRMED)]),
    st.lists(_timed_step, max_size=2),
)
_guesses = st.lists(_guess, min_size=1, max_size=12).map(
    lambda guesses: [step for parts in guesses for part in parts for step in part]
)
_steps = st.one_of(st.lists(_timed_step, max_size=120), _guesses)


def _policies_with(speculate: st.SearchStrategy[bool]) -> st.SearchStrategy[TurnPolicy]:
    return st.builds(
        TurnPolicy,
        speculate=speculate,
        apology=st.sampled_from(["", "Sorry."]),
        idle_ms=st.sampled_from([0, 5_000]),
        idle_prompt=st.just("Are you there?"),
        line_notice=st.sampled_from(["", "I lost you."]),
        backchannels=st.just(frozenset({"mm-hm"})),
    )


_policies = _policies_with(st.booleans())
_guessing = _policies_with(st.just(True))

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

_OF_A_GUESS = (do.StartReply, do.CommitReply, do.WithdrawReply)
"""All that may concern a turn before it is committed, or that never is."""


def _text_of(turn_id: int) -> str:
    """What the reply of a turn is made of: it tells wherever it turns up whose it is."""
    return f"reply-{turn_id} has words. "


def _turns_quoted(told: object) -> set[int]:
    """The turns of whose replies any text occurs anywhere in it."""
    return {int(turn_id) for turn_id in re.findall(r"reply-(\d+)", repr(told))}


def _turn_of(effect: do.Effect) -> int | None:
    named: int | None = getattr(effect.event if isinstance(effect, do.Publish) else effect, "turn_id", None)
    return named


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
    """Guessed at, and neither committed nor withdrawn yet."""
    withdrawn: set[int] = field(default_factory=set)
    asked: dict[int, do.StartReply] = field(default_factory=dict)
    made: set[int] = field(default_factory=set)
    """Turns whose replies were given text."""

    @property
    def unconfirmed(self) -> set[int]:
        return self.secret | self.withdrawn

    def tell(self, fact: i.Input | None) -> None:
        self.told.append((fact, self.now))
        done = self.machine.handle_deadline(self.now) if fact is None else self.machine.handle(fact, self.now)
        self.done += done
        for effect, following in zip_longest(done, done[1:]):
            self._watch(effect)
            self._watch_guesses(effect, following)
        assert self.unconfirmed.isdisjoint(_turns_quoted(self.machine.history))
        state, turn_id = self.machine.state, self.machine.live_turn_id
        assert len(self.secret) <= (state is State.ENDPOINTING)
        assert (turn_id is not None) == (state in REPLYING)
        assert turn_id not in self.dead
        assert self.machine.deadline() is not None or state in RESTING
        assert not any(message.role == "user" and not message.text for message in self.machine.history)

    def _watch(self, effect: do.Effect) -> None:
        match effect:
            case do.StartReply(turn_id=turn_id, speculative=speculative):
                assert turn_id > self.newest_turn
                self.newest_turn = turn_id
                self.asked[turn_id] = effect
                if speculative:
                    self.secret.add(turn_id)
            case do.StartSpeech(turn_id=turn_id):
                assert turn_id > self.newest_turn
                self.newest_turn = turn_id
            case do.CommitReply(turn_id=turn_id):
                self.secret.remove(turn_id)
                asked = self.asked[turn_id]
                said = Message(role="user", text=asked.utterance)
                assert self.machine.history == (*asked.history, said)
            case do.CancelReply(turn_id=turn_id):
                self.dead.add(turn_id)
            case do.WithdrawReply(turn_id=turn_id):
                self.secret.remove(turn_id)
                self.withdrawn.add(turn_id)
                self.dead.add(turn_id)
            case do.StartTranscription(utterance_id=utterance_id):
                self.newest_utterance = utterance_id
            case do.HoldPlayout(turn_id=turn_id) | do.ResumePlayout(turn_id=turn_id):
                assert turn_id not in self.dead
            case do.RewindReply(turn_id=turn_id):
                assert turn_id == self.machine.live_turn_id
            case _:
                pass

    def _watch_guesses(self, effect: do.Effect, following: do.Effect | None) -> None:
        """Of events only the caller's words, which confirm it, name a guess."""
        assert self.unconfirmed.isdisjoint(_turns_quoted(effect))
        turn_id = _turn_of(effect)
        if turn_id not in self.unconfirmed or isinstance(effect, _OF_A_GUESS):
            return
        assert isinstance(effect, do.Publish)
        assert isinstance(effect.event, events.UserTranscript)
        assert following == do.CommitReply(turn_id=turn_id)

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
            case ("says", str(text)):
                self.tell(i.SpeechStarted(speech_ms=96))
                self.tell(i.SpeechStopped(silence_ms=192))
                self.tell(i.TranscriptUpdated(utterance_id=self.newest_utterance, text=text, final=True))
            case ("made", int(duration_ms)):
                for part in (("delta", 0), ("clause", 0), ("audio", 0, duration_ms)):
                    self.step(part)
            case ("delta", int(age)):
                self.made.add(self.turn(age))
                self.tell(i.ReplyDelta(turn_id=self.turn(age), text=_text_of(self.turn(age))))
            case ("clause", int(age)):
                turn_id = self.turn(age)
                self.clauses[turn_id] = self.clauses.get(turn_id, 0) + 1
                self.tell(i.ClausePlanned(turn_id=turn_id, text=_text_of(turn_id)))
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


@given(_guessing, _guesses)
def test_any_run_that_guesses_keeps_what_was_never_committed_to_itself(
    policy: TurnPolicy, steps: list[tuple[int, tuple[object, ...]]]
) -> None:
    """`Run` says after each step: no effect, event or message has words of it, and none but its own name it."""
    run(policy, steps)


@pytest.mark.parametrize("outcome", [do.CommitReply, do.WithdrawReply])
def test_runs_that_guess_come_to_either_outcome(outcome: type[do.CommitReply] | type[do.WithdrawReply]) -> None:
    """Or the property above would hold of nothing. Of replies with text, that is, which could get out."""

    def decides_a_made_one(steps: list[tuple[int, tuple[object, ...]]]) -> bool:
        a_run = run(TurnPolicy(speculate=True), steps)
        return any(isinstance(effect, outcome) and effect.turn_id in a_run.made for effect in a_run.done)

    assert find(_guesses, decides_a_made_one, settings=settings(phases=[Phase.generate]))


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
