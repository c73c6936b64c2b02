"""JSON of `/v1/sessions`, for programs: what its OpenAPI says, made from stories. More fields may come."""

from typing import Literal

from pydantic import BaseModel

from voxthread.core.story import Milestone, SessionStory, TurnStory, Warned
from voxthread.sessions.index import IndexedSession
from voxthread.wire.events import format_instant


class Brief(BaseModel):
    """A session in a list. Instants are RFC 3339, UTC."""

    session_id: str
    frontend_session_id: str
    """The canonical one where no frontend has bound its own."""
    state: Literal["live", "ended"]
    created_at: str
    ended_at: str | None
    end_reason: str | None
    agent: str
    via: str
    turns: int
    warnings: int
    events: int


class SessionPage(BaseModel):
    sessions: list[Brief]
    """Newest first."""
    next_cursor: str | None
    """Of the next page; null on the last one."""


class TurnJson(BaseModel):
    turn_id: int
    began_at: str
    ended_at: str | None
    user_text: str
    agent_text: str
    heard_text: str | None
    """What reached the caller; null if nothing of the turn ever left."""
    played_ms: int | None
    interrupted: bool
    stages: dict[str, int]
    """Milliseconds from the caller's last speech sample to each stage."""


class WarningJson(BaseModel):
    at: str
    code: str
    stage: str
    retryable: bool
    message: str
    turn_id: int | None


class MilestoneJson(BaseModel):
    at: str
    type: str
    detail: str


class Story(BaseModel):
    session_id: str
    frontend_session_id: str
    created_at: str | None
    """Null if the log no longer holds the session's beginning."""
    ended_at: str | None
    end_reason: str | None
    agent: str
    via: str
    turns: list[TurnJson]
    warnings: list[WarningJson]
    components: list[str]
    """Whatever left a trace in the session, in the order of its first one."""
    milestones: list[MilestoneJson]
    events: int


class EventPage(BaseModel):
    events: list[dict[str, object]]
    """As on `/ws`; `docs/protocol.md` lists them."""
    next_after_seq: int
    """`after_seq` of the next page: the last `seq` seen."""
    ended: bool
    """Whether no more will come: the session is over and this page reaches its end."""


class Problem(BaseModel):
    """RFC 9457. `code` is for programs, `detail` for a person."""

    type: str
    status: int
    code: str
    detail: str


def brief_of(session: IndexedSession) -> Brief:
    return Brief(
        session_id=session.session_id,
        frontend_session_id=session.frontend_session_id,
        state=session.state,
        created_at=format_instant(session.created_at_ms),
        ended_at=_instant(session.ended_at_ms),
        end_reason=session.end_reason,
        agent=session.agent,
        via=session.via,
        turns=session.turns,
        warnings=session.warnings,
        events=session.events,
    )


def story_of(story: SessionStory, session: IndexedSession) -> Story:
    """The index knows how a session ended that nobody closed, and the agent of one whose beginning expired."""
    return Story(
        session_id=session.session_id,
        frontend_session_id=session.frontend_session_id,
        created_at=_instant(story.created_at_ms),
        ended_at=_instant(session.ended_at_ms),
        end_reason=session.end_reason,
        agent=session.agent,
        via=session.via,
        turns=[_turn(turn) for turn in story.turns],
        warnings=[_warning(warning) for warning in story.warnings],
        components=story.components,
        milestones=[_milestone(milestone) for milestone in story.milestones],
        events=story.events,
    )


def _turn(turn: TurnStory) -> TurnJson:
    return TurnJson(
        turn_id=turn.turn_id,
        began_at=format_instant(turn.began_at_ms),
        ended_at=_instant(turn.ended_at_ms),
        user_text=turn.user_text,
        agent_text=turn.agent_text,
        heard_text=turn.heard_text,
        played_ms=turn.played_ms,
        interrupted=turn.is_interrupted,
        stages=turn.stages_ms,
    )


def _warning(warning: Warned) -> WarningJson:
    return WarningJson(
        at=format_instant(warning.at_ms),
        code=warning.code,
        stage=warning.stage,
        retryable=warning.retryable,
        message=warning.message,
        turn_id=warning.turn_id,
    )


def _milestone(milestone: Milestone) -> MilestoneJson:
    return MilestoneJson(at=format_instant(milestone.at_ms), type=milestone.type, detail=milestone.detail)


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_instant(at_ms)
