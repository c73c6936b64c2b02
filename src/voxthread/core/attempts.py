"""A session that kills its owners must not kill them all: which of those that were there is to blame, and
what is done about it.

    deaths at the same work            1: go on    2: skip the work    3: quarantine the session
    ... at audio in which nobody spoke 1: go on    2: hear it alone    3: skip it    then alone, and quarantine

Whoever takes over after a death judges each session by what it was at, and writes the judgement down as an
`Attempt` before it dares to go on; the next one, should there be a death again, finds it. An innocent session
that is merely there when owners die gets on with its work between two deaths, or has none, and is then not
at the same place. Where owners die too fast for that, several are: then they are tried one after another,
which costs a death more, and nobody is sentenced who was not alone.

Every caller sends audio, so every session that is left has some that its owner had not got to. To have been
there says nothing: only to have died while nothing else was done than hearing it, which takes a moment.

Pure.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum

from voxthread.core.failures import Failure
from voxthread.core.inputs import Input, ReplyFailed, SpeechRequested, SpeechStopped, TranscriptionFailed
from voxthread.core.turn_state import TurnSnapshot, Utterance

_AUDIO = "audio"

POISONED = Failure(
    code="utterance.poisoned",
    stage="session",
    retryable=False,
    detail="what was said could not be worked on; it was put aside",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a session has open, and how far it has got with it; both are the same in whoever owns it."""

    name: str
    progress: tuple[int, ...]
    """Grows while the work is done; what is merely played to the caller is no progress."""
    answers: int
    """Replies heard so far."""

    @property
    def is_audio(self) -> bool:
        return self.name == _AUDIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Written by an owner before it goes on with a session that was there when an owner died."""

    work: str
    progress: tuple[int, ...]
    answers: int
    deaths: int
    is_skipped: bool = False
    """The session is on probation: work was given up, and nothing has been answered since."""
    is_alone: bool = False
    """It is on trial or on probation, and no other session of the process is."""


class Verdict(Enum):
    GO_ON = "go_on"
    SKIP = "skip"
    """Without the work it was at."""
    SKIP_AUDIO = "skip_audio"
    """Without the audio it was to hear."""
    TRY_ALONE = "try_alone"
    """Go on, while nobody else does that may be to blame."""
    HEAR_ALONE = "hear_alone"
    """Hear the audio once, while nobody else does anything; go on when that is done."""
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`attempt` is what to write down; None: nothing is held against the session."""

    verdict: Verdict
    attempt: Attempt | None


def judge(work: Work | None, before: Attempt | None, *, is_only_suspect: bool) -> Judgement:
    """After a death of the owner. `work` is None for a session that had nothing to do: it has killed nobody.

    `is_only_suspect`: of all sessions that the owner left to this process, no other `is_stuck`.
    """
    if work is None:
        return Judgement(Verdict.GO_ON, acquit(before))
    first = Attempt(work=work.name, progress=work.progress, answers=work.answers, deaths=1)
    if before is None or not is_stuck(work, before):
        return Judgement(Verdict.GO_ON, first)
    again = replace(before, deaths=before.deaths + 1, is_alone=False)
    if work.is_audio:
        return _judge_audio(work, before, again)
    if before.is_skipped:
        return Judgement(Verdict.QUARANTINE if before.is_alone else Verdict.TRY_ALONE, again)
    if before.is_alone or is_only_suspect:
        return Judgement(Verdict.SKIP, replace(again, is_skipped=True))
    return Judgement(Verdict.TRY_ALONE, again)


def _judge_audio(work: Work, before: Attempt, again: Attempt) -> Judgement:
    if not (before.is_alone and _is_at(work, before)):
        return Judgement(Verdict.HEAR_ALONE, replace(again, work=work.name, progress=work.progress))
    verdict = Verdict.QUARANTINE if before.is_skipped else Verdict.SKIP_AUDIO
    return Judgement(verdict, replace(again, is_skipped=True))


def acquit(attempt: Attempt | None) -> Attempt | None:
    """What is still held against a session that had nothing to do with a death: at most its probation."""
    return replace(attempt, is_alone=False) if attempt is not None and attempt.is_skipped else None


def is_stuck(work: Work | None, before: Attempt | None) -> bool:
    """Whether nothing was got done since the death before; on trial and probation only an answer counts."""
    if work is None or before is None or work.answers > before.answers:
        return False
    return _is_at(work, before) or before.is_skipped or before.is_alone


def _is_at(work: Work, before: Attempt) -> bool:
    return work.name == before.work and work.progress <= before.progress


def work_of(
    turn: TurnSnapshot,
    *,
    phrases: Collection[str],
    command_position: int | None,
    unheard_from: int | None,
) -> Work | None:
    """The open utterance with its answer, else the reply that is not all made yet, else the record of
    `voxthread.in` at `command_position`, with which nothing has been done yet, else the audio from
    `unheard_from` on, of which nothing has come yet.

    A caller who goes on speaking while the agent thinks goes on with the same utterance. `phrases` are said
    at a mishap and are no answers.
    """
    utterance, reply = turn.utterance, turn.reply
    if reply is not None and reply.has_ended:
        reply = None  # all that is left is to play it
    answers = count_answers(turn, phrases)
    made = (0, 0) if reply is None else (len(reply.text), reply.ledger.total_ms)
    if utterance is not None:
        is_answered = reply is not None and reply.utterance is not None
        reached = (int(is_answered), int(utterance.is_final), int(utterance.ended_ms is not None))
        progress = (*reached, len(utterance.text), *made)
        return Work(name=f"utterance {utterance.id}", progress=progress, answers=answers)
    if reply is not None:
        return Work(name=f"turn {reply.turn_id}", progress=made, answers=answers)
    if command_position is not None:
        return Work(name=f"record {command_position}", progress=(), answers=answers)
    if unheard_from is not None:
        return Work(name=_AUDIO, progress=(unheard_from,), answers=answers)
    return None


def count_answers(turn: TurnSnapshot, phrases: Collection[str]) -> int:
    """Replies the caller has heard, if only in part."""
    heard = [message.text for message in turn.history if message.role == "assistant"]
    return sum(not any(phrase.startswith(text) for phrase in phrases) for text in heard)


def give_up(turn: TurnSnapshot, tell: Callable[[Input], TurnSnapshot], *, apology: str) -> None:
    """`tell` the machine at `turn` that nothing will come of what it is at; it apologises and listens."""
    utterance, reply = turn.utterance, turn.reply
    if utterance is None and reply is None:
        tell(SpeechRequested(text=apology))
        return
    if reply is not None:
        turn = tell(ReplyFailed(turn_id=reply.turn_id, failure=POISONED))
    if utterance is not None and _is_open(utterance, turn):
        turn = tell(TranscriptionFailed(utterance_id=utterance.id, failure=POISONED))
        if _is_open(utterance, turn):
            tell(SpeechStopped())


def _is_open(utterance: Utterance, turn: TurnSnapshot) -> bool:
    return turn.utterance is not None and turn.utterance.id == utterance.id
