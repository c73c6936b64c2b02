"""What the HTTP server of a media process serves: from its first moment on, whether the log is there or not."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from voxthread.core.failures import BusError
from voxthread.gateway.cors import Cors
from voxthread.gateway.problem import RETRY_AFTER_S, problem

_TRY_AGAIN_LATER = 1013

Trouble = Callable[[], BusError | None]
"""Why the log takes nothing now, None when it does."""


class Entrance:
    """Lets requests through to the role once it is open. While the log is in trouble `/readyz` says why, and
    calls are refused for some seconds instead of waiting for it."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._role: ASGIApp = _closed()
        self._is_open = False
        self._trouble: Trouble = _starting

    def wait_for(self, trouble: BusError) -> None:
        """The role cannot be opened yet."""
        self._trouble = lambda: trouble

    def open(self, role: ASGIApp, trouble: Trouble) -> None:
        self._role, self._trouble, self._is_open = role, trouble, True

    def close(self) -> None:
        self._trouble, self._is_open = _stopping, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope)(scope, receive, send)
        elif self._is_open:
            await self._role(scope, receive, send)
        else:
            await WebSocketClose(_TRY_AGAIN_LATER)(scope, receive, send)

    def _answer(self, scope: Scope) -> ASGIApp:
        path, trouble = scope["path"], self._trouble()
        if trouble is None or path == "/healthz":
            return self._role
        if path == "/readyz":
            return _unready(trouble)
        if self._is_open and (path, scope["method"]) != ("/whip", "POST"):
            return self._role
        refusal = problem(trouble)
        refusal.headers.update(self._cors.headers(_origin(scope), is_options=False))
        return refusal


def _origin(scope: Scope) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), None)


def _unready(trouble: BusError) -> JSONResponse:
    reasons = {"log": f"{trouble.code}: {trouble.detail}"}
    headers = {"Cache-Control": "no-store", "Retry-After": str(RETRY_AFTER_S)}
    return JSONResponse({"ready": False, "reasons": reasons}, 503, headers)


def _closed() -> Starlette:
    async def healthz(_request: object) -> PlainTextResponse:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    return Starlette(routes=[Route("/healthz", healthz)])


def _starting() -> BusError:
    return BusError("bus.opening", "the log is being opened; try again in some seconds", retryable=True)


def _stopping() -> BusError:
    return BusError("server.stopping", "the server is about to stop; try again in some seconds", retryable=True)
