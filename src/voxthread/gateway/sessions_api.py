"""GET /v1/sessions: which sessions there are and were, and the story of each. `/openapi.json` describes it.

No page of another origin may read it (no CORS headers): in open mode it tells every call there was, to
whoever is on this machine.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from structlog.contextvars import bound_contextvars

from voxthread.core.failures import VoiceError
from voxthread.core.ids import MAX_CHARS, MIN_CHARS, Dialect
from voxthread.gateway.problem import RequestError, problem
from voxthread.gateway.sessions_schema import (
    EventPage,
    Problem,
    SessionPage,
    Story,
    brief_of,
    story_of,
)
from voxthread.gateway.whip_rules import Credentials, read_credentials
from voxthread.observability.logs import get_logger
from voxthread.sessions.index import Key, State, Viewer
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.stories import SessionStories
from voxthread.sessions.tokens import is_loopback

ID_PATTERN: Final = r"session_[0-9]+_[A-Za-z0-9-][A-Za-z0-9_-]*"
"""What an id that no edge refuses looks like, for the OpenAPI; `core.ids` decides and names the broken rule."""

CURSOR_PATTERN: Final = rf"([0-9]{{1,15}})\.({ID_PATTERN})"

MAX_PAGE: Final = 200
MAX_EVENTS: Final = 500
_MAX_SEQ: Final = 2**53 - 1

SessionIdPath = Annotated[
    str,
    Path(
        description="A canonical session id, or a frontend's.",
        json_schema_extra={"minLength": MIN_CHARS, "maxLength": MAX_CHARS, "pattern": f"^{ID_PATTERN}$"},
    ),
]
_CURSOR = Query(
    max_length=256,
    description="`next_cursor` of a page.",
    json_schema_extra={"pattern": f"^{CURSOR_PATTERN}$"},
)

log = get_logger(__name__)

_bearer = HTTPBearer(
    auto_error=False, description="A bearer token (`events:read`, `admin`), or a session token."
)
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status, text in {
        "400": "A parameter is wrong; for a session id `code` is the rule it breaks.",
        "401": "A token is missing or wrong.",
        "403": "The token lacks the scope, or the request came under a foreign host name.",
        "default": "Any other refusal.",
    }.items()
}
_OF_ONE: Final = _REFUSALS | {
    status: {**_REFUSALS["default"], "description": text}
    for status, text in {
        "404": "There is no such session, or it is another's.",
        "409": "The frontend id has named several sessions.",
        "410": "The session's events are no longer kept.",
    }.items()
}


def create_sessions_routes(
    stories: SessionStories,
    *,
    invalid_ids: InvalidIds,
    viewer_of: Callable[[Credentials], Viewer],
    is_open: bool,
) -> APIRouter:
    """The routes of `/v1/sessions`.

    `viewer_of` says what a request may see, by what it shows; it raises `SessionError`. With `is_open` anybody
    on this machine may ask, so a request must name this machine as its host.
    """
    router = APIRouter(prefix="/v1/sessions", tags=["sessions"], dependencies=[Depends(_bearer)])
    Asking: TypeAlias = Annotated[Viewer, Depends(_asking(viewer_of, is_open))]

    @router.get("", responses=_REFUSALS)
    async def list_sessions(
        viewer: Asking,
        state: Annotated[Literal["live", "ended"] | None, Query(description="Only these.")] = None,
        cursor: Annotated[str | None, _CURSOR] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> SessionPage:
        """Sessions, newest first."""
        states: tuple[State, ...] = ("live", "ended") if state is None else (state,)
        found = stories.index.page(viewer, states=states, before=_read_cursor(cursor), limit=limit + 1)
        more = len(found) > limit
        return SessionPage(
            sessions=[brief_of(session) for session in found[:limit]],
            next_cursor=_cursor(found[limit - 1].key) if more else None,
        )

    @router.get("/{any_id}", responses=_OF_ONE)
    async def show_session(viewer: Asking, any_id: SessionIdPath) -> Story:
        """The story of a session, by its canonical id or a frontend's."""
        invalid_ids.check(any_id, component="sessions_api", dialect=Dialect.OTHER)
        session = stories.index.find(any_id, viewer)
        with _in_logs(session.session_id, session.frontend_session_id):
            return story_of(await stories.story(session), session)

    @router.get("/{any_id}/events", responses=_OF_ONE | {200: {"model": EventPage}}, response_model=None)
    async def session_events(
        viewer: Asking,
        any_id: SessionIdPath,
        after_seq: Annotated[int, Query(ge=0, le=_MAX_SEQ, description="The last `seq` seen.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
    ) -> Response:
        """Events of a session in order. To follow one that lives, ask again with `next_after_seq`."""
        invalid_ids.check(any_id, component="sessions_api", dialect=Dialect.OTHER)
        session = stories.index.find(any_id, viewer)
        ended = session.state == "ended"
        with _in_logs(session.session_id, session.frontend_session_id):
            events = await stories.events(session, after_seq=after_seq, limit=limit)
        return _event_page(events, after_seq, ended=ended and len(events) < limit)

    return router


def _asking(viewer_of: Callable[[Credentials], Viewer], is_open: bool) -> Callable[..., Viewer]:
    """The dependency that finds out who asks."""

    def viewer(
        request: Request, x_session_token: Annotated[str | None, Header(max_length=256)] = None
    ) -> Viewer:
        if is_open:
            _check_host(request)
        return viewer_of(read_credentials(request.headers.get("authorization"), x_session_token))

    return viewer


def _event_page(events: list[bytes], after_seq: int, *, ended: bool) -> Response:
    page = {
        "events": [msgspec.Raw(event) for event in events],
        "next_after_seq": msgspec.json.decode(events[-1], type=_Numbered).seq if events else after_seq,
        "ended": ended,
    }
    return Response(msgspec.json.encode(page), media_type="application/json")


class _Numbered(msgspec.Struct):
    seq: int


def refuse_with_problems(app: FastAPI) -> None:
    """Let every error of the application be problem+json."""

    async def voice_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, VoiceError)
        log.info("http.refused", method=request.method, code=error.code)
        return problem(error)

    async def wrong_parameter(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return problem(RequestError(400, "request.invalid", wrong))

    async def http_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        return problem(RequestError(error.status_code, f"http.{error.status_code}", error.detail, headers))

    async def mistake_of_ours(_request: Request, _error: Exception) -> Response:
        return problem(RequestError(500, "internal_error", "The server failed; its log says why."))

    app.add_exception_handler(VoiceError, voice_error)
    app.add_exception_handler(Exception, mistake_of_ours)
    app.add_exception_handler(RequestValidationError, wrong_parameter)
    app.add_exception_handler(HTTPException, http_error)


def _check_host(request: Request) -> None:
    """A foreign page whose name was made to mean this machine (DNS rebinding) still sends that name here."""
    if not is_loopback(request.url.hostname or ""):
        raise RequestError(403, "host_forbidden", "Without a key, sessions are told on this machine only.")


def _cursor(key: Key) -> str:
    created_at_ms, session_id = key
    return f"{created_at_ms}.{session_id}"


def _read_cursor(text: str | None) -> Key | None:
    if text is None:
        return None
    found = re.fullmatch(CURSOR_PATTERN, text)
    if found is None:
        raise RequestError(400, "cursor_invalid", "The cursor is not one that this server gave out.")
    return int(found[1]), found[2]


def _in_logs(session_id: str, frontend_session_id: str) -> AbstractContextManager[None]:
    return bound_contextvars(session_id=session_id, frontend_session_id=frontend_session_id)
