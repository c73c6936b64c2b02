"""Any OpenAI-compatible `/chat/completions` endpoint, streamed."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio.lowlevel
import httpx

from voxthread.core.failures import LanguageModelError
from voxthread.core.history import Message
from voxthread.engines.llm.sse import DataLines
from voxthread.observability.logs import get_logger

_log = get_logger(__name__)

_CONNECT_TIMEOUT_S = 3.0
_ATTEMPTS = 2
_DONE = b"[DONE]"

_NEVER_REACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError)
"""Failures before any answer that a second attempt often heals: refused, or a kept connection gone stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiSettings:
    """`base_url` as providers print it, e.g. https://api.openai.com/v1. Without a key none is sent.

    `timeout_ms` bounds the wait for the first token, and each wait between tokens.
    """

    base_url: str
    model: str
    api_key: str | None = None
    max_tokens: int = 120
    temperature: float = 0.0
    timeout_ms: int = 20_000

    def __repr__(self) -> str:
        return f"OpenAiSettings({self.base_url!r}, {self.model!r})"


class OpenAiLanguageModel:
    """The `LanguageModel` port; opened by `open_openai`."""

    def __init__(self, settings: OpenAiSettings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client

    async def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        async with AsyncExitStack() as closing:
            try:
                response = await self._connect(messages)
                closing.push_async_callback(response.aclose)
                if response.status_code != HTTPStatus.OK:
                    raise refusal(response.status_code)
                async for delta in _deltas(response):
                    await anyio.lowlevel.checkpoint()  # a whole reply may have come at once
                    yield delta
            except httpx.TimeoutException:
                timeout_ms = self._settings.timeout_ms
                raise LanguageModelError(
                    "llm.timeout", f"no token for {timeout_ms} ms", retryable=True
                ) from None
            except httpx.HTTPError as error:
                # The text of some of httpx's errors quotes the URL, which may hold a key.
                raise LanguageModelError("llm.unreachable", type(error).__name__, retryable=True) from None

    async def prefill(self, messages: Sequence[Message]) -> None:
        """Nothing: providers cache prompts by themselves."""

    async def _connect(self, messages: Sequence[Message]) -> httpx.Response:
        body = {
            "model": self._settings.model,
            "messages": [{"role": message.role, "content": _encodable(message.text)} for message in messages],
            "max_tokens": self._settings.max_tokens,
            "temperature": self._settings.temperature,
            "stream": True,
        }
        for attempt in range(1, _ATTEMPTS + 1):
            request = self._client.build_request("POST", "chat/completions", json=body)
            try:
                return await self._client.send(request, stream=True)
            except _NEVER_REACHED as error:
                if attempt == _ATTEMPTS:
                    raise
                _log.warning("llm.connect_retried", error=type(error).__name__)
        raise AssertionError("the last attempt returns or raises")


def _encodable(text: str) -> str:
    """`text` with its lone surrogates, which JSON on the wire cannot hold, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


async def _deltas(response: httpx.Response) -> AsyncIterator[str]:
    lines, finished = DataLines(), False
    async for chunk in response.aiter_bytes():
        try:
            events = lines.feed(chunk)
        except ValueError as error:
            raise LanguageModelError("llm.stream_malformed", str(error)) from None
        for data in events:
            if data == _DONE:
                return
            event = _parsed(data)
            if event.get("error"):
                raise LanguageModelError(
                    "llm.stream_failed", "the provider failed in its reply", retryable=True
                )
            text, ended = _choice(event)
            finished = finished or ended
            if text:
                yield text
    if not finished:
        raise LanguageModelError("llm.stream_broken", "the reply ended without its end", retryable=True)


def _parsed(data: bytes) -> dict[str, Any]:
    """The event, or an empty one: proxies put comments, blanks and worse in between."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        _log.warning("llm.event_malformed", size_bytes=len(data))
        return {}
    return event if isinstance(event, dict) else {}


def _choice(event: dict[str, Any]) -> tuple[str, bool]:
    """The text an event adds, and whether it is the last. Usage and filter reports have no choice at all."""
    match event.get("choices"):
        case [{"delta": {"content": str(text)}, **rest}, *_] | [{"text": str(text), **rest}, *_]:
            return text, bool(rest.get("finish_reason"))
        case [{"finish_reason": reason}, *_]:
            return "", bool(reason)
    return "", False


def refusal(status: int) -> LanguageModelError:
    """What a status other than 200 means. The body is not read: providers quote the prompt in it."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return LanguageModelError("llm.unauthorized", f"HTTP {status}: the key is refused; set llm.api_key")
    if status == HTTPStatus.NOT_FOUND:
        return LanguageModelError(
            "llm.not_found", "HTTP 404: no such endpoint or model; see llm.base_url, llm.model"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return LanguageModelError("llm.rate_limited", "HTTP 429", retryable=True)
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return LanguageModelError("llm.unavailable", f"HTTP {status}", retryable=True)
    return LanguageModelError("llm.refused", f"HTTP {status}")


@asynccontextmanager
async def open_openai(settings: OpenAiSettings) -> AsyncIterator[OpenAiLanguageModel]:
    """Connections are kept inside the block."""
    headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    timeout = httpx.Timeout(settings.timeout_ms / 1000, connect=_CONNECT_TIMEOUT_S)
    base_url = settings.base_url.rstrip("/") + "/"
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout) as client:
        yield OpenAiLanguageModel(settings, client)
