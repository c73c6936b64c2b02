"""Refusals as problem+json (RFC 9457): a code for programs, a detail that tells a person what to do."""

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from voxthread.core.failures import SessionError, VoiceError
from voxthread.observability.metrics import REQUESTS_REFUSED
from voxthread.sessions.errors import http_status

RETRY_AFTER_S = 5


class RequestError(VoiceError):
    """A request that is refused for its own sake, with the headers its status calls for."""

    stage = "http"

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, detail)
        self.status = status
        self.headers = dict(headers or {})


def problem(error: VoiceError) -> Response:
    """The answer to a request that failed with `error`."""
    status = status_of(error)
    headers = {"Cache-Control": "no-store"}
    match error:
        case RequestError():
            headers |= error.headers
        case _ if status == 401:
            invalid = "" if error.code == "token_missing" else ', error="invalid_token"'
            headers["WWW-Authenticate"] = f'Bearer realm="voxthread"{invalid}'
        case _ if status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        case _:
            pass
    REQUESTS_REFUSED.labels(error.code).inc()
    body = {"type": "about:blank", "status": status, "code": error.code, "detail": error.detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def status_of(error: VoiceError) -> int:
    """An error may carry its `status`; else a session's has one by its code, and others are 503 if a
    retry may help and 500 if not."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status
    if isinstance(error, SessionError):
        return http_status(error)
    return 503 if error.retryable else 500
