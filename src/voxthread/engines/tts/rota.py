"""Whose turn it is when several sessions want the one voice: short turns, newcomers first.

A newcomer is somebody waiting for an answer; whoever has been served is listening to what was made
already. So the first window of a new request goes before the next window of the others, which take turns.
"""

from collections import deque
from typing import Generic, TypeVar

Work = TypeVar("Work")


class Rota(Generic[Work]):
    """Requests by number, each with the windows it may still be given before its listener takes more."""

    __slots__ = ("_credit", "_fresh", "_served", "_work")

    def __init__(self) -> None:
        self._work: dict[int, Work] = {}
        self._credit: dict[int, int] = {}
        self._fresh: deque[int] = deque()
        self._served: deque[int] = deque()

    def add(self, request: int, work: Work, credit: int) -> None:
        self._work[request] = work
        self._credit[request] = credit
        self._fresh.append(request)

    def grant(self, request: int) -> None:
        """The listener took a window. A request that is gone is not an error: messages cross."""
        if request in self._credit:
            self._credit[request] += 1

    def spend(self, request: int) -> None:
        """A window of the request was made: it is served, and behind the others."""
        if request in self._credit:
            self._credit[request] -= 1
            (self._fresh if request in self._fresh else self._served).remove(request)
            self._served.append(request)

    def drop(self, request: int) -> None:
        if self._work.pop(request, None) is not None:
            del self._credit[request]
            (self._fresh if request in self._fresh else self._served).remove(request)

    def next(self) -> tuple[int, Work] | None:
        """The request to work on, or None while nobody may be given more."""
        for queue in (self._fresh, self._served):
            for request in queue:
                if self._credit[request] > 0:
                    return request, self._work[request]
        return None
