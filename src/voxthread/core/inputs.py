"""Inputs of the turn machine: facts in the past tense. Audio bytes never enter it, only facts about audio.

Each is recorded on the log with its `now`, which is what replay re-drives; so they hold plain values only.
An utterance is one stretch of the caller's speech, a turn one reply of the agent; whatever an asynchronous
stage reports carries the id it was started with, and the machine drops what is stale.
"""

from dataclasses import dataclass

from voxthread.core.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """Speech was heard; it began `speech_ms` ago."""

    speech_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPaused:
    """Silence was heard, too short yet to say that speech has stopped; the last speech was `silence_ms` ago."""

    silence_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechContinued:
    """It was a pause between two sounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStopped:
    """Silence was heard; the last speech was `silence_ms` ago."""

    silence_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfTurnPredicted:
    utterance_id: int
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptUpdated:
    utterance_id: int
    text: str
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionFailed:
    utterance_id: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReceived:
    """The caller typed instead of speaking."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptReceived:
    """The caller pressed stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequested:
    """The agent should say a fixed text (its greeting) if nobody is speaking."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDelta:
    turn_id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClausePlanned:
    """A clause of the reply goes to speech synthesis now."""

    turn_id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSynthesized:
    """`duration_ms` more audio of the reply exists; it belongs to its `clause`th planned clause, from 0."""

    turn_id: int
    clause: int
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyEnded:
    """All of the reply has been generated and synthesized."""

    turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFailed:
    turn_id: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutAdvanced:
    """The caller has been sent `played_ms` of the reply."""

    turn_id: int
    played_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutDrained:
    """All of the reply was played."""

    turn_id: int
    played_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineLost:
    """The caller is not connected any more.

    Of `heard_turn_id` they have heard `heard_ms` at most, and nothing of what came after it; 0 is before any
    turn, None says that nothing is known.
    """

    heard_turn_id: int | None = None
    heard_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineResumed:
    """The caller is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    reason: str


Input = (
    SpeechStarted
    | SpeechPaused
    | SpeechContinued
    | SpeechStopped
    | EndOfTurnPredicted
    | TranscriptUpdated
    | TranscriptionFailed
    | TextReceived
    | InterruptReceived
    | SpeechRequested
    | ReplyDelta
    | ClausePlanned
    | AudioSynthesized
    | ReplyEnded
    | ReplyFailed
    | PlayoutAdvanced
    | PlayoutDrained
    | LineLost
    | LineResumed
    | SessionEnded
)
