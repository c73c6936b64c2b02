"""Noticing that a reply does not go on: its owner may be gone. Pure."""

from typing import Final

OVERDUE_MS: Final = 500
SUSPECT_EACH_MS: Final = 1_000


class Owed:
    """What the owner of one session owes: audio of the reply it has begun.

    A slow agent looks the same as a dead owner from here, so this is a hint, to be weighed by whoever hears of
    the owner itself.
    """

    def __init__(self) -> None:
        self._since_ms: int | None = None
        self._suspected_at_ms: int | None = None

    def received(self) -> None:
        """The owner has written something for the session."""
        self._since_ms = None

    def is_overdue(self, *, is_starved: bool, now_ms: int) -> bool:
        """Called on each tick with whether a reply has run dry; true when it is time to say so."""
        if not is_starved:
            self._since_ms = None
            return False
        if self._since_ms is None:
            self._since_ms = now_ms
        if now_ms - self._since_ms < OVERDUE_MS:
            return False
        if self._suspected_at_ms is not None and now_ms - self._suspected_at_ms < SUSPECT_EACH_MS:
            return False
        self._suspected_at_ms = now_ms
        return True
