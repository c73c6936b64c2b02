"""Going on with a conversation whose owner is gone: what puts the world back in step with the machine."""

from dataclasses import replace

from voxthread.core.effects import (
    Effect,
    FinishTranscription,
    FlushPlayout,
    HoldPlayout,
    PredictEndOfTurn,
    ResumePlayout,
    ResumeReply,
    StartTranscription,
)
from voxthread.core.history import Message
from voxthread.core.turn_state import Deadline, Reply, State, TurnSnapshot, Utterance


def resume(snapshot: TurnSnapshot, now: int) -> tuple[TurnSnapshot, list[Effect]]:
    """The snapshot to build the machine from, and the effects to perform before its first input.

    Time in which nobody owned the session has not passed for its deadlines. Each effect may have been
    performed before by the owner that is gone, and is harmless twice.
    """
    away_ms = max(0, now - snapshot.at_ms)
    deadlines = {name: at_ms + away_ms for name, at_ms in snapshot.deadlines.items()}
    effects: list[Effect] = []
    reply, utterance = snapshot.reply, snapshot.utterance
    over = snapshot.turn_count if reply is None else reply.turn_id - 1
    if over:
        effects.append(FlushPlayout(turn_id=over))
    if utterance is not None:
        utterance = replace(utterance, texts_owed=int(_wants_text(utterance)))
        effects += _resume_utterance(utterance, is_asking=Deadline.ASK in deadlines)
    if reply is not None:
        effects.append(resume_reply(reply, snapshot.history))
        is_held = snapshot.state is State.OVERLAP
        effects.append((HoldPlayout if is_held else ResumePlayout)(turn_id=reply.turn_id))
    return replace(snapshot, at_ms=now, deadlines=deadlines, utterance=utterance, guess=None), effects


def _wants_text(utterance: Utterance) -> bool:
    return (utterance.is_paused or utterance.ended_ms is not None) and not utterance.is_final


def _resume_utterance(utterance: Utterance, *, is_asking: bool) -> list[Effect]:
    effects: list[Effect] = [StartTranscription(utterance_id=utterance.id)]
    if _wants_text(utterance):
        effects.append(FinishTranscription(utterance_id=utterance.id))
    if is_asking:
        effects.append(PredictEndOfTurn(utterance_id=utterance.id))
    return effects


def resume_reply(reply: Reply, history: tuple[Message, ...]) -> ResumeReply:
    """What it takes to go on with a reply; `history` ends with what it answers."""
    is_answer = reply.utterance is not None
    return ResumeReply(
        turn_id=reply.turn_id,
        history=history[:-1] if is_answer else history,
        utterance=reply.utterance,
        speech=reply.speech,
        generated_chars=len(reply.text),
        clauses=tuple(replace(clause) for clause in reply.ledger.clauses),
        played_ms=reply.played_ms,
    )
