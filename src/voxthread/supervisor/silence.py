"""Which roles have fallen silent. Pure.

Silence counts only while somebody listens: the clock for it is the supervisor's own heartbeats as they come
back from the log. While the log is away, or the supervisor itself was stopped, it stands still, and afterwards
everybody has the whole patience again.
"""

from typing import Final

PAUSE_MS: Final = 1_000
"""A heartbeat of one's own that comes so late, or after so long a pause, proves that nobody listened."""


class Silence:
    """Hears the heartbeats of roles; a role never heard has not begun and is not silent."""

    def __init__(self, patience_ms: int) -> None:
        self._patience_ms = patience_ms
        self._clock_ms = 0
        self._echo_ms: int | None = None
        self._heard_ms: dict[str, int] = {}

    def hear(self, worker_id: str) -> None:
        self._heard_ms[worker_id] = self._clock_ms

    def forget(self, worker_id: str) -> None:
        self._heard_ms.pop(worker_id, None)

    def hear_echo(self, at_ms: int, now: int) -> None:
        """The supervisor's own heartbeat of `at_ms` has come back."""
        pause_ms = at_ms - (at_ms if self._echo_ms is None else self._echo_ms)
        self._echo_ms = at_ms
        if max(pause_ms, now - at_ms) < PAUSE_MS:
            self._clock_ms += pause_ms
        else:
            self._heard_ms = dict.fromkeys(self._heard_ms, self._clock_ms)

    def silent(self) -> list[str]:
        """Those unheard for the whole patience; each is told once."""
        since_ms = self._clock_ms - self._patience_ms
        silent = [worker_id for worker_id, heard_ms in self._heard_ms.items() if heard_ms < since_ms]
        for worker_id in silent:
            self.forget(worker_id)
        return silent
