"""What a server tells of its sessions, over `/v1/sessions`."""

from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import httpx

from voxthread.client.failures import CallError
from voxthread.client.whip import bearer, refusal_of, tls_context

_TIMEOUT_S = 30.0


class SessionsClient:
    """Asks the server at `url`, its base. All methods raise `CallError`."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            verify=tls_context(), headers=bearer(token), timeout=_TIMEOUT_S, trust_env=False
        )

    async def __aenter__(self) -> "SessionsClient":
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def page(
        self, *, state: Literal["live", "ended"] | None = None, cursor: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """`{"sessions": [...], "next_cursor": ...}`, newest first."""
        return await self._get("", state=state, cursor=cursor, limit=limit)

    async def show(self, any_id: str) -> dict[str, Any]:
        """The story of a session, by its canonical id or a frontend's."""
        return await self._get(f"/{_path(any_id)}")

    async def events(self, any_id: str, *, after_seq: int) -> dict[str, Any]:
        """`{"events": [...], "next_after_seq": N, "ended": bool}`"""
        return await self._get(f"/{_path(any_id)}/events", after_seq=after_seq, limit=500)

    async def _get(self, path: str, **params: str | int | None) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        try:
            response = await self._http.get(f"{self._url}/v1/sessions{path}", params=given)
        except httpx.HTTPError as error:
            raise CallError(
                "call.unreachable",
                f"{self._url} does not answer ({type(error).__name__}): is `voxthread serve` running there?",
                retryable=True,
            ) from error
        if not response.is_success:
            raise refusal_of(response)
        answer: dict[str, Any] = response.json()
        return answer


def _path(any_id: str) -> str:
    """Whatever was typed, as one part of a path; an empty id or dots would name another resource."""
    if any_id.strip(".") == "":
        raise CallError("too_short", "a session id has at least 20 characters")
    return quote(any_id, safe="")
