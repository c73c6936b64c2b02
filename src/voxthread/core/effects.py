"""Effects of the turn machine: imperatives for the shell that drives it."""

from dataclasses import dataclass

from voxthread.core.events import Event
from voxthread.core.history import Message
from voxthread.core.playout import Clause


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTranscription:
    """Transcribe the caller's audio from the start of this speech (with its pre-roll) on."""

    utterance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTranscription:
    """Ask for a final transcript of the utterance so far; it may still go on."""

    utterance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTranscription:
    """Nothing more of this utterance is wanted: it is answered, or was not meant for the agent."""

    utterance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictEndOfTurn:
    """Ask the end-of-turn model about the utterance so far."""

    utterance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareReply:
    """The caller is still speaking, and this is what they have said: a reply to it may be prepared."""

    history: tuple[Message, ...]
    utterance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReply:
    """Ask the agent for a reply to `utterance` and synthesize it.

    The audio of a `speculative` reply is kept back until `CommitReply`; nothing of it is ever heard, logged
    as history, or allowed to call a tool before that.
    """

    turn_id: int
    history: tuple[Message, ...]
    utterance: str
    speculative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSpeech:
    """Synthesize a fixed text as this turn's reply."""

    turn_id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeReply:
    """Go on with a reply that somebody else was giving: say nothing of it again.

    To be generated like `StartReply` (to `utterance`) or `StartSpeech` (of `speech`). Of what that gives, the
    first `generated_chars` of text, the `clauses` and the audio counted in them are known already.
    """

    turn_id: int
    history: tuple[Message, ...]
    utterance: str | None
    speech: str | None
    generated_chars: int
    clauses: tuple[Clause, ...]
    played_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindReply:
    """Let the caller hear the reply again from `to_ms` on; nothing behind it is left where it was queued.

    `reply` is for an owner that does not have that audio any more.
    """

    turn_id: int
    to_ms: int
    reply: ResumeReply


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitReply:
    """Release the audio of a speculative reply."""

    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawReply:
    """Forget a speculative reply."""

    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReply:
    """Stop generating and synthesizing."""

    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPlayout:
    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePlayout:
    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushPlayout:
    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSession:
    reason: str


Effect = (
    StartTranscription
    | FinishTranscription
    | EndTranscription
    | PredictEndOfTurn
    | PrepareReply
    | StartReply
    | StartSpeech
    | ResumeReply
    | RewindReply
    | CommitReply
    | WithdrawReply
    | CancelReply
    | HoldPlayout
    | ResumePlayout
    | FlushPlayout
    | Publish
    | EndSession
)
