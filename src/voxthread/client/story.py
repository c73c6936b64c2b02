"""A call as its events tell it: who said what, in which turn, and how long each stage took. Pure."""

from dataclasses import dataclass, field

from voxthread.core import events
from voxthread.wire.events import Envelope


@dataclass(slots=True)
class Turn:
    """One reply of the agent. `began_us` is when its first event arrived, Unix microseconds.

    `heard_text` is None until the turn is over, interrupted or not; a turn taken back before it was heard
    never is, and another one follows.
    """

    turn_id: int
    began_us: int
    user_text: str = ""
    agent_text: str = ""
    heard_text: str | None = None
    has_spoken: bool = False
    is_interrupted: bool = False
    stages_ms: dict[str, int] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        return self.heard_text is not None


class Story:
    """Folds the events of a session."""

    def __init__(self) -> None:
        self.turns: dict[int, Turn] = {}
        self.errors: list[events.ErrorOccurred] = []
        self.events = 0
        self.closed_because: str | None = None
        self.user_is_speaking = False
        self._last_seq = 0
        self._transcripts: dict[int, tuple[int | None, str]] = {}
        """By utterance: the turn that answers it, and its final text."""

    @property
    def last_seq(self) -> int:
        """Of the newest event taken in; 0 before the first."""
        return self._last_seq

    @property
    def agent_is_speaking(self) -> bool:
        return any(turn.has_spoken and not turn.has_ended for turn in self.turns.values())

    @property
    def last_turn_id(self) -> int:
        """0 before the first turn."""
        return max(self.turns, default=0)

    @property
    def user_transcript(self) -> str:
        """Everything the agent understood of the caller."""
        return " ".join(text for _, text in self._transcripts.values() if text)

    @property
    def agent_transcript(self) -> str:
        """Everything the caller heard of the agent; what it meant to say where the turn is not over."""
        texts = (turn.agent_text if turn.heard_text is None else turn.heard_text for turn in self._in_order())
        return " ".join(text.strip() for text in texts if text.strip())

    def last_turn_before(self, instant_us: int) -> int:
        """The newest turn that had begun by then; 0 if none had."""
        return max((turn.turn_id for turn in self.turns.values() if turn.began_us < instant_us), default=0)

    def turns_after(self, turn_id: int) -> list[Turn]:
        return [turn for turn in self._in_order() if turn.turn_id > turn_id]

    def add(self, envelope: Envelope, arrival_us: int) -> bool:
        """Take an event in. False if it was known already: a replay after a reconnection."""
        if envelope.seq <= self._last_seq:
            return False
        self._last_seq = envelope.seq
        self.events += 1
        self._add_to_session(envelope.event)
        if envelope.event.turn_id is not None:
            turn = self.turns.setdefault(envelope.event.turn_id, Turn(envelope.event.turn_id, arrival_us))
            _add_to_turn(turn, envelope.event)
        return True

    def _add_to_session(self, event: events.Event) -> None:
        match event:
            case events.UserSpeechStarted():
                self.user_is_speaking = True
            case events.UserSpeechStopped():
                self.user_is_speaking = False
            case events.UserTranscript(final=True):
                self._transcribe(event)
            case events.SessionClosed(reason=reason):
                self.closed_because = reason
            case events.ErrorOccurred():
                self.errors.append(event)

    def _transcribe(self, transcript: events.UserTranscript) -> None:
        """A caller who goes on before the answer is heard is answered anew: one utterance, a later turn."""
        answered_before, _ = self._transcripts.get(transcript.utterance_id, (None, ""))
        if answered_before is not None and answered_before != transcript.turn_id:
            self.turns[answered_before].user_text = ""
        self._transcripts[transcript.utterance_id] = (transcript.turn_id, transcript.text)

    def _in_order(self) -> list[Turn]:
        return [self.turns[turn_id] for turn_id in sorted(self.turns)]


def _add_to_turn(turn: Turn, event: events.Event) -> None:
    match event:
        case events.UserTranscript(text=text, final=True):
            turn.user_text = text
        case events.AgentReplyDelta(text=text):
            turn.agent_text += text
        case events.AgentSpeechStarted():
            turn.has_spoken = True
        case events.AgentSpeechStopped(heard_text=text):
            turn.heard_text = text
        case events.AgentInterrupted(heard_text=text):
            turn.heard_text = text
            turn.is_interrupted = True
        case events.TurnTiming(stage=stage, ms=ms):
            turn.stages_ms[stage] = ms
