"""Keeping a call: its events are followed, and a line that is lost is dialled again, to the same session.

A killed process says nothing, and ICE takes half a minute to miss it; but its WebSocket is reset at once. So
the end of the events is taken as a hint, and whatever is doubted is tried: to resume a session that was not
lost costs it a moment. Events that end because the server restarts, or because we were slow, are asked for
alone first.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, repeat

import anyio

from voxthread.client.failures import CallError
from voxthread.client.feed import EventFeed, FeedEnd
from voxthread.client.line import Line, Reconnect
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger

log = get_logger(__name__)

RESUMABLE_MS = 60_000
"""How long a server keeps a session whose caller is gone."""

_PAUSES_S = (0, *[0.25] * 8, *[0.5] * 4, 1)
_LAST_PAUSE_S = 2
"""A media process is back within about two seconds of its death, which is when looking often is worth it."""
_JITTER = 0.25
"""Part of each pause that is up to chance, so that all callers of a process do not come back as one."""

_REBIND_PAUSE_S = 0.25
_FAREWELL_MS = 1_000
"""How long the end of a session may take to be told after its token was refused."""


class Keeper:
    """`on_line` sees each reconnect twice: when the line is lost, and when it is back."""

    def __init__(
        self, url: str, line: Line, feed: EventFeed, on_line: Callable[[Reconnect], None] | None = None
    ) -> None:
        self.reconnects: list[Reconnect] = []
        self._url = url
        self._line = line
        self._feed = feed
        self._on_line = on_line
        self._is_leaving = False
        self._redialling: anyio.CancelScope | None = None

    def leave(self) -> None:
        """From now on a loss is no surprise."""
        self._is_leaving = True
        if self._redialling is not None:
            self._redialling.cancel()

    async def run(self) -> None:
        """Keep the call until it was left, or is over for good, which the feed is told."""
        while not (self._is_leaving or self._feed.is_over):
            error = await self._keep_once()
            if error is not None:
                self._feed.fail(error)

    async def _keep_once(self) -> CallError | None:
        """Follow one connection until it is lost and the next one stands; return what is in the way of that."""
        loss = _Loss()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, loss)
            tasks.start_soon(self._watch, loss)
            await loss.noticed.wait()
            if self._is_leaving:
                return None
            error = await self._mend(loss)
            tasks.cancel_scope.cancel()
        return error

    async def _follow(self, loss: "_Loss") -> None:
        refusal_counts = True
        while True:
            try:
                end = await self._feed.follow(self._url, self._line.session_token)
            except CallError as error:
                # A process that took the place of ours does not know our token, but may resume the session.
                loss.notice("events_refused", refusal=error if refusal_counts else None)
                return
            if not (self._feed.is_bound and end in (FeedEnd.RESTARTING, FeedEnd.SLOW)):
                loss.notice(end.value)
                return
            refusal_counts = False
            await anyio.sleep(_REBIND_PAUSE_S)

    async def _watch(self, loss: "_Loss") -> None:
        loss.notice(await self._line.lost(lambda: self._feed.story.agent_is_speaking))

    async def _mend(self, loss: "_Loss") -> CallError | None:
        if loss.refusal is not None or self._feed.is_over:
            return loss.refusal
        try:
            if not self._line.may_redial:
                code = "call.events_lost" if loss.reason.startswith("events") else "call.lost"
                raise CallError(code, f"the line is lost ({loss.reason})", retryable=True)
            await self._reconnect(loss.reason)
        except CallError as error:
            # A session that has ended loses its peer and its token first; that it has ended is told then.
            with anyio.move_on_after(_FAREWELL_MS / 1000), suppress(CallError):
                await self._feed.until(lambda _: False)
            return error
        return None

    async def _reconnect(self, reason: str) -> None:
        """Raises `CallError` if the session cannot be resumed."""
        reconnect = Reconnect(at_ms=now_ms(), reason=reason)
        self.reconnects.append(reconnect)
        self._tell(reconnect)
        self._line.is_away = True
        with anyio.move_on_after(RESUMABLE_MS / 1000) as self._redialling:
            await self._redial()
            self._line.is_away = False
            reconnect.gap_ms = now_ms() - reconnect.at_ms
            self._tell(reconnect)
            return
        if not self._is_leaving:
            raise CallError("call.lost", f"the line was lost ({reason}) and did not come back", retryable=True)

    async def _redial(self) -> None:
        """Try again until it works. Raises `CallError` where it never will."""
        for pause_s in chain(_PAUSES_S, repeat(_LAST_PAUSE_S)):
            await anyio.sleep(pause_s * random.uniform(1 - _JITTER, 1 + _JITTER))
            try:
                await self._line.redial()
            except CallError as error:
                if not error.retryable:
                    raise
                log.debug("call.redial_failed", code=error.code, reason=error.detail)
            else:
                return

    def _tell(self, reconnect: Reconnect) -> None:
        if self._on_line is not None:
            self._on_line(reconnect)


class _Loss:
    """The first thing that went wrong with a connection."""

    def __init__(self) -> None:
        self.noticed = anyio.Event()
        self.reason = ""
        self.refusal: CallError | None = None
        """Why the events of a session that was just opened or resumed are refused: nothing would mend that."""

    def notice(self, reason: str, *, refusal: CallError | None = None) -> None:
        if not self.noticed.is_set():
            self.reason, self.refusal = reason, refusal
            self.noticed.set()
