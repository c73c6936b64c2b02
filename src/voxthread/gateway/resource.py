"""One URL of an HTTP API: its methods, its refusals as problems, CORS on every response."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.contextvars import clear_contextvars

from voxthread.core.failures import VoiceError
from voxthread.gateway.cors import Cors
from voxthread.gateway.problem import RequestError, problem
from voxthread.observability.logs import get_logger

Method = Callable[[Request], Awaitable[Response]]

log = get_logger(__name__)


class Resource:
    """An ASGI application for a `Route`. Nothing it answers may be stored by caches."""

    def __init__(self, methods: Mapping[str, Method], cors: Cors) -> None:
        self._methods = methods
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        clear_contextvars()  # a request begins outside of any session, whatever its task did before
        request = Request(scope, receive)
        response = await self._respond(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.update(
            self._cors.headers(request.headers.get("origin"), is_options=request.method == "OPTIONS")
        )
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            method = self._methods.get(request.method)
            if method is None:
                allow = ", ".join(self._methods)
                raise RequestError(405, "http.method", f"This URL takes {allow}.", {"Allow": allow})
            return await method(request)
        except VoiceError as error:
            log.info("http.refused", method=request.method, code=error.code)
            return problem(error)
