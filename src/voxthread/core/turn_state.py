"""The parts of the turn machine: its states, its policy, and the utterance and reply it may hold."""

from dataclasses import dataclass, field
from enum import Enum

from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.failures import Failure
from voxthread.core.history import Message
from voxthread.core.playout import HeardLedger
from voxthread.core.timing import TurnClock


class State(Enum):
    LISTENING = "listening"
    USER_SPEAKING = "user_speaking"
    ENDPOINTING = "endpointing"
    THINKING = "thinking"
    SPEAKING = "speaking"
    OVERLAP = "overlap"
    CLOSED = "closed"


NO_TRANSCRIPT = Failure(code="stt.timeout", stage="stt", retryable=True, detail="no transcript came in time")
NO_REPLY = Failure(
    code="reply.timeout", stage="agent", retryable=True, detail="the reply did not start in time"
)
REPLY_STALLED = Failure(
    code="reply.stalled", stage="agent", retryable=True, detail="the reply stopped half-way"
)

REPLYING = frozenset({State.THINKING, State.SPEAKING, State.OVERLAP})
"""The states with a live reply."""


class Deadline(Enum):
    """What the machine may be waiting for; every state but LISTENING and CLOSED has at least one."""

    MAX_UTTERANCE = "max_utterance"
    ENDPOINT = "endpoint"
    GRACE = "grace"
    ASK = "ask"
    FIRST_AUDIO = "first_audio"
    STALL = "stall"
    OVERLAP = "overlap"
    LINE = "line"
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPolicy:
    endpoint: EndpointPolicy = field(default_factory=EndpointPolicy)
    stt_grace_ms: int = 3_000
    """How long after the endpoint a final transcript is waited for."""
    first_audio_ms: int = 15_000
    """From the start of a reply to its first sample at the caller."""
    stall_ms: int = 8_000
    """A reply in which nothing happens for so long has failed."""
    overlap_ms: int = 700
    """Speech over the agent this long is an interruption whatever was said."""
    max_utterance_ms: int = 60_000
    speculate: bool = False
    """Start the reply as soon as a transcript exists, before the turn is confirmed."""
    line_ms: int = 60_000
    """How long a caller who is not connected is waited for with a reply."""
    line_notice: str = ""
    """Spoken when the caller is back, for what they said was not heard; empty says nothing."""
    idle_ms: int = 0
    """Silence of both after which the agent asks whether the caller is there; 0 never does."""
    idle_prompt: str = ""
    max_idle_prompts: int = 2
    """In a row, with no answer of the caller."""
    apology: str = ""
    """Spoken after a failure; empty says nothing."""
    backchannels: frozenset[str] = frozenset()


@dataclass(slots=True)
class Utterance:
    """One stretch of the caller's speech, open until it is answered aloud or found to want no answer."""

    id: int
    text: str = ""
    is_final: bool = False
    """The text covers all the speech so far."""
    ended_ms: int | None = None
    """When the last speech was; None while it goes on."""
    transcript_ms: int | None = None
    """When the final text came."""
    failure: Failure | None = None
    is_paused: bool = False
    """Silence has begun that may be the end of it."""
    verdicts: tuple[float, ...] = ()
    """How probable it was each time that it was over, as far as asked since it paused."""
    texts_owed: int = 0
    """Final texts asked for and not given yet; the one asked for last covers all the speech so far."""

    def text_given(self) -> None:
        self.texts_owed = max(0, self.texts_owed - 1)

    def resume(self) -> None:
        self.is_final = self.is_paused = False
        self.ended_ms = None
        self.transcript_ms = None
        self.verdicts = ()


@dataclass(slots=True)
class Reply:
    """One reply of the agent, to `utterance` or, when that is None, of the fixed text `speech`."""

    turn_id: int
    clock: TurnClock
    utterance: str | None = None
    speech: str | None = None
    text: str = ""
    """What the agent has generated so far."""
    played_ms: int = 0
    has_ended: bool = False
    ledger: HeardLedger = field(default_factory=HeardLedger)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSnapshot:
    """All of a turn machine but its policy: enough to go on elsewhere."""

    at_ms: int
    """The instant of the last input."""
    state: State = State.LISTENING
    history: tuple[Message, ...] = ()
    utterance: Utterance | None = None
    reply: Reply | None = None
    deadlines: dict[Deadline, int] = field(default_factory=dict)
    utterance_count: int = 0
    turn_count: int = 0
    line_lost_ms: int | None = None
    is_notice_due: bool = False
    idle_prompts: int = 0
    guess: Reply | None = None
    """A reply begun before its turn was confirmed. It is lost with its owner, unless that went on to confirm
    it: then somebody may have heard of it."""
