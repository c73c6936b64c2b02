"""When a call must end whatever is said, why, and with which words before. Pure."""

from typing import Final

from voxthread.orchestrator.call_policy import GOODBYE_MS, CallPolicy

TOO_LONG: Final = "too_long"
LOG_CLOSING: Final = "log_closing"

_ASK_AGAIN_MS: Final = 300


class Ending:
    """Of one call. `goodbye_ms` is when the words are due, None when they have been said."""

    def __init__(self, call: CallPolicy, created_at_ms: int, *, has_said_goodbye: bool = False) -> None:
        self._call = call
        self.reason = TOO_LONG
        self.goodbye = call.goodbye
        self.at_ms = created_at_ms + call.max_session_ms
        self.goodbye_ms: int | None = None if has_said_goodbye else self.at_ms - GOODBYE_MS

    @property
    def is_urgent(self) -> bool:
        """Whether the words are for a caller who is being spoken to as well."""
        return self.reason == LOG_CLOSING

    def hasten(self, now: int) -> None:
        """The log is about to take nothing more: end as soon as that was said."""
        if not self.is_urgent:
            self.reason, self.goodbye = LOG_CLOSING, self._call.closing_notice
            self.at_ms, self.goodbye_ms = min(self.at_ms, now + GOODBYE_MS), now

    def said(self, now: int, *, is_heard: bool) -> None:
        """`is_heard`: nobody was speaking. Words that matter are tried again until they are."""
        self.goodbye_ms = now + _ASK_AGAIN_MS if self.is_urgent and not is_heard else None
