"""GET /ws: the frontend's WebSocket. Events go out, commands come in; `docs/protocol.md` is its text.

Every frame is one JSON object with a `type`. The first one binds the socket to a session; from then on every
event of that session, and of no other, is sent in order. What is wrong with a message is told by an `error`
event to this socket alone, which stays open.
"""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from voxthread.core.failures import VoiceError
from voxthread.gateway.door import SessionDoor
from voxthread.gateway.frontend_socket import Commands, FrontendSocket, SocketLimits
from voxthread.gateway.hub import EventHub
from voxthread.gateway.problem import RETRY_AFTER_S, RequestError, problem
from voxthread.observability.metrics import EVENT_SOCKETS
from voxthread.sessions.invalid_ids import InvalidIds

__all__ = ["Commands", "EventHub", "SocketLimits", "create_events_routes"]


def create_events_routes(
    hub: EventHub,
    door: SessionDoor,
    commands: Commands,
    *,
    invalid_ids: InvalidIds,
    principal_of: Callable[[HTTPConnection], str],
    allowed_origins: Sequence[str] = ("*",),
    limits: SocketLimits | None = None,
) -> list[BaseRoute]:
    """The route of `/ws`.

    `principal_of` names who asks, also whoever shows no credential: a browser cannot send a header here, and a
    session token is enough to join. It raises `SessionError` for a credential that is wrong. A page of another
    origin gets in only if `allowed_origins` names it (or "*").
    """
    limits = limits or SocketLimits()
    open_sockets = 0

    async def follow_session(websocket: WebSocket) -> None:
        nonlocal open_sockets
        try:
            _check_origin(websocket, allowed_origins)
            if open_sockets >= limits.max_sockets:
                headers = {"Retry-After": str(RETRY_AFTER_S)}
                raise RequestError(503, "too_many_sockets", "the server is full, try again later", headers)
            principal = principal_of(websocket)
        except VoiceError as error:
            await websocket.send_denial_response(problem(error))
            return
        open_sockets += 1
        EVENT_SOCKETS.inc()
        try:
            await websocket.accept()
            await FrontendSocket(websocket, hub, door, commands, invalid_ids, principal, limits).converse()
        except WebSocketDisconnect:
            return
        finally:
            open_sockets -= 1
            EVENT_SOCKETS.dec()

    return [WebSocketRoute("/ws", follow_session)]


def _check_origin(websocket: WebSocket, allowed: Sequence[str]) -> None:
    """Browsers always send `Origin` (RFC 6455 section 10.2); other clients may leave it out."""
    origin = websocket.headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise RequestError(403, "origin_forbidden", "pages of this origin may not connect")
