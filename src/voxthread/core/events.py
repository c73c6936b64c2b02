"""Public events: what the outside may know about a session, in the order it happened.

Facts in the past tense. `wire.events` gives each its envelope (session ids, `seq`, `at`) and its JSON;
`docs/protocol.md` lists them for clients. `turn_id` is None where an event belongs to no turn.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    TYPE: ClassVar[str] = ""
    turn_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerEvent(Event):
    """Told by the session's owner of its own accord: no input of the turn machine gives rise to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCreated(OwnerEvent):
    TYPE: ClassVar[str] = "session.created"
    agent: str
    partition: int
    via: str
    """The door the session came in by: `whip` or `ws`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBound(OwnerEvent):
    """The session and a frontend id now name each other."""

    TYPE: ClassVar[str] = "session.bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConnected(OwnerEvent):
    """A media peer is connected. `receives_audio` is false for an encoder that only sends."""

    TYPE: ClassVar[str] = "session.connected"
    receives_audio: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDisconnected(OwnerEvent):
    TYPE: ClassVar[str] = "session.disconnected"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResumed(Event):
    """The caller is back after `away_ms`; what they said in between was not heard."""

    TYPE: ClassVar[str] = "session.resumed"
    away_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(Event):
    TYPE: ClassVar[str] = "session.closed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpeechStarted(Event):
    TYPE: ClassVar[str] = "user.speech_started"
    utterance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpeechStopped(Event):
    TYPE: ClassVar[str] = "user.speech_stopped"
    utterance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTranscript(Event):
    """What the caller said. Interim texts of an utterance replace each other; one final text ends it."""

    TYPE: ClassVar[str] = "user.transcript"
    utterance_id: int
    text: str
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReplyDelta(Event):
    """Text the agent is about to say; the deltas of a turn concatenate without separator."""

    TYPE: ClassVar[str] = "agent.reply_delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpeechStarted(Event):
    TYPE: ClassVar[str] = "agent.speech_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpeechHeld(Event):
    """The caller's voice overlaps: playout is held until it is known whether this is an interruption."""

    TYPE: ClassVar[str] = "agent.speech_held"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpeechResumed(Event):
    TYPE: ClassVar[str] = "agent.speech_resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpeechStopped(Event):
    """The turn is over; `heard_text` is what reached the caller, `played_ms` how long it was."""

    TYPE: ClassVar[str] = "agent.speech_stopped"
    heard_text: str
    played_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInterrupted(Event):
    TYPE: ClassVar[str] = "agent.interrupted"
    heard_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTiming(Event):
    """`ms` after the caller's last speech sample at which the turn reached `stage`."""

    TYPE: ClassVar[str] = "turn.timing"
    stage: str
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorTakeover(OwnerEvent):
    """Another process goes on with the session; for `gap_ms` nobody is known to have attended to it."""

    TYPE: ClassVar[str] = "orchestrator.takeover"
    gap_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionIdInvalid(OwnerEvent):
    TYPE: ClassVar[str] = "session.id_invalid"
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOccurred(Event):
    """`message` is for a person; it holds neither the caller's words nor internals."""

    TYPE: ClassVar[str] = "error"
    code: str
    stage: str
    retryable: bool
    message: str


PUBLIC_EVENTS: tuple[type[Event], ...] = (
    SessionCreated,
    SessionBound,
    SessionConnected,
    SessionDisconnected,
    SessionResumed,
    SessionClosed,
    UserSpeechStarted,
    UserSpeechStopped,
    UserTranscript,
    AgentReplyDelta,
    AgentSpeechStarted,
    AgentSpeechHeld,
    AgentSpeechResumed,
    AgentSpeechStopped,
    AgentInterrupted,
    TurnTiming,
    OrchestratorTakeover,
    SessionIdInvalid,
    ErrorOccurred,
)
