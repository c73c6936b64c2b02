"""The story of a session, folded from its events: what was said and heard, how long it took, how it ended.

Pure. Instants are Unix milliseconds. `add` takes the events in order, each once.
"""

from dataclasses import dataclass, field
from typing import Final

from voxthread.core import events

GATEWAY: Final = "gateway"
MEDIA: Final = "media"
ORCHESTRATOR: Final = "orchestrator"


@dataclass(slots=True, kw_only=True)
class TurnStory:
    """One reply of the agent and what it answers; `user_text` is empty where nobody had asked.

    `heard_text` and `played_ms` are None until the turn is over, and stay so for a turn that was taken back
    before a sound of it left. `stages_ms` count from the caller's last speech sample.
    """

    turn_id: int
    began_at_ms: int
    ended_at_ms: int | None = None
    user_text: str = ""
    agent_text: str = ""
    heard_text: str | None = None
    played_ms: int | None = None
    is_interrupted: bool = False
    stages_ms: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """An event of the session itself; `detail` is its reason, agent or rule, empty where it has none."""

    at_ms: int
    type: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """An error, or a session id that was refused."""

    at_ms: int
    code: str
    stage: str
    retryable: bool
    message: str
    turn_id: int | None


class SessionStory:
    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.frontend_session_id = session_id
        self.agent = ""
        self.via = ""
        self.created_at_ms: int | None = None
        """None if the first event is no longer there."""
        self.ended_at_ms: int | None = None
        self.end_reason: str | None = None
        self.events = 0
        self.milestones: list[Milestone] = []
        self.warnings: list[Warned] = []
        self._turns: dict[int, TurnStory] = {}
        self._answered_by: dict[int, int] = {}
        self._components: dict[str, None] = {}

    @property
    def turns(self) -> list[TurnStory]:
        return [self._turns[turn_id] for turn_id in sorted(self._turns)]

    @property
    def components(self) -> list[str]:
        """Whatever has left a trace in the session, in the order of its first one: the roles, and the stages
        that failed."""
        return list(self._components)

    def add(self, event: events.Event, at_ms: int, *, frontend_session_id: str) -> None:
        self.events += 1
        self.frontend_session_id = frontend_session_id
        self._add_to_session(event, at_ms)
        if event.turn_id is not None:
            turn = self._turns.setdefault(event.turn_id, TurnStory(turn_id=event.turn_id, began_at_ms=at_ms))
            _add_to_turn(turn, event, at_ms)

    def _add_to_session(self, event: events.Event, at_ms: int) -> None:
        match event:
            case events.SessionCreated(agent=agent, via=via):
                self.agent, self.via, self.created_at_ms = agent, via, at_ms
                self._tell(event, at_ms, GATEWAY, detail=f"{agent} via {via}")
            case events.SessionBound():
                self._tell(event, at_ms, GATEWAY, detail=self.frontend_session_id)
            case events.SessionConnected(receives_audio=receives_audio):
                self._tell(event, at_ms, MEDIA, detail="" if receives_audio else "sends only")
            case events.SessionDisconnected(reason=reason):
                self._tell(event, at_ms, MEDIA, detail=reason)
            case events.SessionClosed(reason=reason):
                self.ended_at_ms, self.end_reason = at_ms, reason
                self._tell(event, at_ms, ORCHESTRATOR, detail=reason)
            case events.OrchestratorTakeover(gap_ms=gap_ms):
                self._tell(event, at_ms, ORCHESTRATOR, detail=f"after {gap_ms} ms")
            case events.SessionIdInvalid(rule=rule):
                self._warn(at_ms, rule, GATEWAY, message=f"a session id was refused: {rule}")
            case events.ErrorOccurred():
                self._warn(
                    at_ms,
                    event.code,
                    event.stage,
                    retryable=event.retryable,
                    message=event.message,
                    turn_id=event.turn_id,
                )
            case events.UserTranscript(final=True, turn_id=int() as turn_id):
                self._transcribe(event, turn_id)
            case _:
                self._components.setdefault(ORCHESTRATOR)

    def _transcribe(self, transcript: events.UserTranscript, turn_id: int) -> None:
        """A caller who goes on before the answer is heard is answered anew: one utterance, a later turn."""
        before = self._answered_by.get(transcript.utterance_id)
        if before is not None and before != turn_id and before in self._turns:
            self._turns[before].user_text = ""
        self._answered_by[transcript.utterance_id] = turn_id

    def _tell(self, event: events.Event, at_ms: int, component: str, *, detail: str) -> None:
        self._components.setdefault(component)
        self._components.setdefault(ORCHESTRATOR)  # it has written the event
        self.milestones.append(Milestone(at_ms=at_ms, type=event.TYPE, detail=detail))

    def _warn(
        self,
        at_ms: int,
        code: str,
        stage: str,
        *,
        message: str,
        retryable: bool = False,
        turn_id: int | None = None,
    ) -> None:
        self._components.setdefault(stage)
        self.warnings.append(
            Warned(at_ms=at_ms, code=code, stage=stage, retryable=retryable, message=message, turn_id=turn_id)
        )


def _add_to_turn(turn: TurnStory, event: events.Event, at_ms: int) -> None:
    match event:
        case events.UserTranscript(text=text, final=True):
            turn.user_text = text
        case events.AgentReplyDelta(text=text):
            turn.agent_text += text
        case events.AgentSpeechStopped(heard_text=text, played_ms=played_ms):
            turn.heard_text, turn.played_ms, turn.ended_at_ms = text, played_ms, at_ms
        case events.AgentInterrupted(heard_text=text):
            turn.heard_text, turn.is_interrupted, turn.ended_at_ms = text, True, at_ms
        case events.TurnTiming(stage=stage, ms=ms):
            turn.stages_ms[stage] = ms
        case _:
            pass
