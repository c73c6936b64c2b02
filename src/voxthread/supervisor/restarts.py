"""When a role that has died is started again. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    first_ms: int = 200
    """Before the second restart within the window, doubled each time; the first one is immediate."""
    stand_in_ms: int = 3_000
    """Before any restart of a role for which another stands in: loading its models takes from the successor the
    processor on which that is to answer (2.1 s later, measured)."""
    longest_ms: int = 5_000
    window_ms: int = 30_000
    failing_deaths: int = 5
    """A role that dies so often within the window is failing: it needs a person, and `longest_ms` each time."""


@dataclass(frozen=True, slots=True)
class Restart:
    delay_ms: int
    is_failing: bool


class Restarts:
    """Those of one role."""

    __slots__ = ("_deaths_ms", "_policy")

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._deaths_ms: list[int] = []

    def handle_death(self, now: int, *, has_stand_in: bool = False) -> Restart:
        policy = self._policy
        self._deaths_ms = [at_ms for at_ms in self._deaths_ms if now - at_ms < policy.window_ms] + [now]
        deaths = len(self._deaths_ms)
        if deaths >= policy.failing_deaths:
            return Restart(policy.longest_ms, is_failing=True)
        delay_ms = policy.first_ms * 2 ** (deaths - 2) if deaths > 1 else 0
        least_ms = policy.stand_in_ms if has_stand_in else 0
        return Restart(max(least_ms, min(delay_ms, policy.longest_ms)), is_failing=False)
