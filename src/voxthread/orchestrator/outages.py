"""How long a partition of the log has been away: meanwhile nobody can say that he carries a call."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

_USUAL_MS: Final = 1_000
"""What a log that is there may take to answer, or a process to be given the processor again."""


class Outages:
    """Sums them up from questions that are asked of the log in silence. `now` is in milliseconds."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._past_ms = 0
        self._asked_ms: int | None = None

    @property
    def total_ms(self) -> int:
        """Of all until now, with the one that lasts."""
        return self._past_ms + self._present_ms

    @property
    def _present_ms(self) -> int:
        waited_ms = 0 if self._asked_ms is None else self._now() - self._asked_ms
        return waited_ms if waited_ms > _USUAL_MS else 0

    async def during(self, question: Awaitable[T]) -> T:
        """The answer; the log was away if it took longer than usual."""
        self._asked_ms = self._now()
        try:
            return await question
        finally:
            self._past_ms += self._present_ms
            self._asked_ms = None
