"""HTTP/1.1 that does not wait for ever for the head of a request."""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S: Final = 5.0
"""From the first byte of a request, or the start of a connection, to the end of its headers."""


class TimedHttpProtocol(H11Protocol):
    """uvicorn's, which by itself bounds only the silence between two requests."""

    _head_is_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._attend()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._attend()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _attend(self) -> None:
        """A head that is under way has its time; one that is complete leaves the rest to whoever reads it."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_is_due is None:
            self._head_is_due = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None
