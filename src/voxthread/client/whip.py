"""The HTTP half of a call: WHIP (RFC 9725) with the session headers of Voxthread."""

import ssl
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from urllib.parse import urljoin

import anyio
import httpx

from voxthread.client.failures import CallError

_POST_TIMEOUT_SECONDS = 15.0
_RESUME_TIMEOUT_SECONDS = 5.0
_DELETE_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WhipAnswer:
    """What a 201 brought. `location` is the absolute session URL: a secret, as are both tokens.

    `resume_token` moves the session to another peer, once; None from a server that cannot do that.
    """

    sdp: str
    location: str
    session_id: str
    frontend_session_id: str
    session_token: str
    resume_token: str | None


class WhipClient:
    """Places and ends one call at `url`, the server's base. `token` authorises the POST."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._http = httpx.AsyncClient(
            verify=tls_context(), follow_redirects=True, timeout=_POST_TIMEOUT_SECONDS, trust_env=False
        )

    async def __aenter__(self) -> "WhipClient":
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        with anyio.CancelScope(shield=True):  # connections are left open by a closing that is cut short
            await self._http.__aexit__(kind, error, trace)

    async def place(self, offer: str, *, agent: str | None, frontend_session_id: str | None) -> WhipAnswer:
        """POST an offer. Raises `CallError`."""
        headers = bearer(self._token)
        if frontend_session_id is not None:
            headers["X-Session-ID"] = frontend_session_id
        return await self._post(offer, headers, agent=agent, timeout_s=_POST_TIMEOUT_SECONDS)

    async def resume(self, offer: str, resume_token: str) -> WhipAnswer:
        """POST an offer that moves the token's session to it. Raises `CallError`."""
        return await self._post(offer, {"X-Resume-Token": resume_token}, timeout_s=_RESUME_TIMEOUT_SECONDS)

    async def rejoin(self, offer: str, session_token: str) -> WhipAnswer:
        """The same by a token that is not used up. Raises `CallError`."""
        return await self._post(offer, {"X-Session-Token": session_token}, timeout_s=_RESUME_TIMEOUT_SECONDS)

    async def _post(
        self, offer: str, headers: dict[str, str], *, timeout_s: float, agent: str | None = None
    ) -> WhipAnswer:
        try:
            response = await self._http.post(
                f"{self._url}/whip",
                params={"agent": agent} if agent else {},
                content=offer,
                headers={"Content-Type": "application/sdp", **headers},
                timeout=timeout_s,
            )
        except httpx.HTTPError as error:
            raise CallError(
                "call.unreachable",
                f"{self._url} does not answer ({type(error).__name__}): is `voxthread serve` running there?",
                retryable=True,
            ) from error
        if response.status_code != httpx.codes.CREATED:
            raise refusal_of(response)
        try:
            session_id = response.headers["X-Session-ID"]
            session_token = response.headers["X-Session-Token"]
            location = urljoin(str(response.url), response.headers["Location"])
        except KeyError as missing:
            raise CallError("call.refused", f"the server's answer has no {missing} header") from None
        return WhipAnswer(
            sdp=response.text,
            location=location,
            session_id=session_id,
            frontend_session_id=response.headers.get("X-Frontend-Session-ID", session_id),
            session_token=session_token,
            resume_token=response.headers.get("X-Resume-Token"),
        )

    async def hang_up(self, answer: WhipAnswer) -> None:
        """DELETE the session; a session that is already gone is as good. Raises `CallError`."""
        try:
            response = await self._http.delete(
                answer.location,
                headers=bearer(answer.session_token),
                timeout=_DELETE_TIMEOUT_SECONDS,
            )
        except httpx.HTTPError as error:
            detail = f"the server could not be told to end the call ({type(error).__name__})"
            raise CallError("call.unreachable", detail, retryable=True) from error
        if not response.is_success and response.status_code != httpx.codes.NOT_FOUND:
            raise refusal_of(response)


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def refusal_of(response: httpx.Response) -> CallError:
    """The server's problem+json (RFC 9457) as an error of ours."""
    code, detail = "call.refused", response.reason_phrase
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        problem = response.json()
        code = str(problem.get("code", code))
        detail = str(problem.get("detail") or problem.get("title") or detail)
    may_retry = "Retry-After" in response.headers or response.is_server_error
    return CallError(code, f"the server said {response.status_code}: {detail}", retryable=may_retry)


@cache
def tls_context() -> ssl.SSLContext:
    """One for all calls: reading the system's certificates costs about 20 ms."""
    return ssl.create_default_context()
