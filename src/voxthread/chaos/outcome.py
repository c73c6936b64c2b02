"""What a call was for its caller, and how a disturbed one differs from the same one undisturbed. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from voxthread.chaos.pauses import Sound, added_silence_ms, sound_ms
from voxthread.chaos.plan import Moment, Phase
from voxthread.chaos.texts import sentences_repeated, words_missing, words_of
from voxthread.wire.events import format_instant

History = tuple[tuple[str, str], ...]
"""What the caller said and what was heard of the answer, turn by turn, as the server tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A call of one question. `agent_text` is what the agent meant to say, `heard_text` what was heard of it.

    `sounds` are those of the reply, `v2v_ms` the time to its first one; None if there was none.
    """

    session_id: str
    user_text: str
    agent_text: str
    heard_text: str
    v2v_ms: float | None
    sounds: tuple[Sound, ...]
    history: History
    is_stuck: bool
    """It was hung up and has not ended."""
    takeovers_ms: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()
    reconnects: int = 0

    @property
    def reply_ms(self) -> float:
        return self.sounds[-1].last_ms if self.sounds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What was struck, and which phase it really was."""

    role: str
    pid: int
    at_us: int
    phase: Phase | None = None

    def in_phase(self, phase: Phase | None) -> "Blow":
        return replace(self, phase=phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One disturbed call. `problem` says why it could not be measured."""

    agent: str
    question: str
    moment: Moment
    blow: Blow | None = None
    undisturbed: Heard | None = None
    heard: Heard | None = None
    session_id: str | None = None
    problem: str | None = None
    outage_ms: float | None = None
    """How long the brokers did not answer."""
    back_ms: float | None = None
    """From the blow to the agent's next sound."""
    answered_after_back_ms: float | None = None
    """From the end of an outage to the first sound of the reply."""
    zombie_records: int = 0
    """Written under an old epoch behind a newer one, for readers to refuse."""
    adopted: bool | None = None

    @property
    def phase(self) -> Phase:
        """In which it was really struck; a moment is foretold from the call undisturbed."""
        return self.moment.phase if self.blow is None or self.blow.phase is None else self.blow.phase

    @property
    def added_silence_ms(self) -> float | None:
        if self.heard is None or self.undisturbed is None or not self.heard.sounds:
            return None
        return max(0.0, added_silence_ms(self.undisturbed.sounds, self.heard.sounds))

    @property
    def reply_delay_ms(self) -> float | None:
        if self.heard is None or self.undisturbed is None:
            return None
        late, usual = self.heard.v2v_ms, self.undisturbed.v2v_ms
        return None if late is None or usual is None else late - usual

    @property
    def sound_difference_ms(self) -> float | None:
        """More (or less) sound than undisturbed: something was heard twice, or not at all."""
        if self.heard is None or self.undisturbed is None:
            return None
        return sound_ms(self.heard.sounds) - sound_ms(self.undisturbed.sounds)

    @property
    def user_words_lost(self) -> int:
        if self.heard is None or self.undisturbed is None:
            return 0
        return words_missing(self.undisturbed.user_text, self.heard.user_text)

    @property
    def agent_words_lost(self) -> int:
        """Of what the agent said undisturbed; where it chose other words, of what it meant to say."""
        if self.heard is None or self.undisturbed is None:
            return 0
        return words_missing(self._expected(self.heard, self.undisturbed), self.heard.heard_text)

    @property
    def sentences_repeated(self) -> int:
        if self.heard is None or self.undisturbed is None:
            return 0
        return sentences_repeated(self.undisturbed.heard_text, self.heard.heard_text)

    @property
    def history_equal(self) -> bool | None:
        """After a line that was lost, the agent's word about it comes on top."""
        if self.heard is None or self.undisturbed is None:
            return None
        kept = (
            self.heard.history[: len(self.undisturbed.history)] if self.heard.reconnects else self.heard.history
        )
        return self._words(kept) == self._words(self.undisturbed.history)

    def _words(self, history: History) -> list[list[str]]:
        """Of both sides where the agent always says the same, else of the caller's; words, because capitals
        and stops come and go with what speech-to-text heard before them."""
        sides = 2 if self.agent == DETERMINISTIC else 1
        return [words_of(text) for turn in history for text in turn[:sides]]

    def _expected(self, heard: Heard, undisturbed: Heard) -> str:
        return undisturbed.heard_text if self.agent == DETERMINISTIC else heard.agent_text


DETERMINISTIC = "hotel"
"""The agent that says the same to the same words, so that its texts can be compared."""


def run_json(run: Run) -> dict[str, Any]:
    heard, blow = run.heard, run.blow
    return {
        "session_id": run.session_id,
        "agent": run.agent,
        "question": run.question,
        "at": run.moment.phase.value,
        "fraction": round(run.moment.fraction, 4),
        "struck": None
        if blow is None
        else {
            "role": blow.role,
            "pid": blow.pid,
            "at": format_instant(blow.at_us // 1000),
            "phase": None if blow.phase is None else blow.phase.value,
        },
        "added_silence_ms": _rounded(run.added_silence_ms),
        "reply_delay_ms": _rounded(run.reply_delay_ms),
        "takeover_ms": list(heard.takeovers_ms) if heard else [],
        "outage_ms": _rounded(run.outage_ms),
        "back_ms": _rounded(run.back_ms),
        "answered_after_back_ms": _rounded(run.answered_after_back_ms),
        "sound_difference_ms": _rounded(run.sound_difference_ms),
        "user_words_lost": run.user_words_lost,
        "agent_words_lost": run.agent_words_lost,
        "sentences_repeated": run.sentences_repeated,
        "history_equal": run.history_equal,
        "stuck": bool(heard and heard.is_stuck),
        "reconnects": heard.reconnects if heard else 0,
        "zombie_records": run.zombie_records,
        "adopted": run.adopted,
        "errors": list(heard.errors) if heard else [],
        "history": heard.history if heard else None,
        "user_text": heard.user_text if heard else None,
        "heard_text": heard.heard_text if heard else None,
        "problem": run.problem,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def measured(runs: Sequence[Run], name: str) -> list[float]:
    """A figure of each run that has it."""
    values = (getattr(run, name) for run in runs)
    return [value for value in values if value is not None]
