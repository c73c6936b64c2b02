"""Session ids that break a rule: counted each, warned of each, unless somebody sends thousands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from voxthread.core.failures import SessionError
from voxthread.core.ids import Dialect, IdRule, refusal
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import SESSION_ID_INVALID

log = get_logger(__name__)

BURST: Final = 20
BURST_WINDOW_MS: Final = 60_000
SUMMARY_MS: Final = 10_000
_SHOWN_CHARS: Final = 24  # of a token pasted in the wrong place, this leaves over 100 bits unknown


class WarningBudget:
    """One kind of warning: `BURST` at once and as many a minute (a token bucket), the rest is counted.

    Pure. What was held back comes out as one number every `SUMMARY_MS`, by whichever of `admit` and
    `take_held_back` is called first after it is due.
    """

    __slots__ = ("_credit", "_held_back", "_refilled_ms", "_summary_due_ms")

    def __init__(self, now_ms: int) -> None:
        self._credit = float(BURST)
        self._refilled_ms = now_ms
        self._held_back = 0
        self._summary_due_ms = 0

    def admit(self, now_ms: int) -> bool:
        """Whether this one is written; if not, it is counted."""
        elapsed_ms = max(0, now_ms - self._refilled_ms)
        self._credit = min(BURST, self._credit + elapsed_ms * BURST / BURST_WINDOW_MS)
        self._refilled_ms = now_ms
        if self._credit >= 1:
            self._credit -= 1
            return True
        if not self._held_back:
            self._summary_due_ms = now_ms + SUMMARY_MS
        self._held_back += 1
        return False

    def take_held_back(self, now_ms: int) -> int:
        """How many were held back since the last summary, once that is due; else 0."""
        if not self._held_back or now_ms < self._summary_due_ms:
            return 0
        held_back, self._held_back = self._held_back, 0
        return held_back


@dataclass(frozen=True, slots=True)
class _Kind:
    component: str
    dialect: Dialect
    rule: IdRule


class InvalidIds:
    """Where every edge has its session ids checked."""

    def __init__(self, *, now_ms: Callable[[], int] = clock.now_ms) -> None:
        self._now_ms = now_ms
        self._budgets: dict[_Kind, WarningBudget] = {}

    def check(self, text: str, *, component: str, dialect: Dialect) -> None:
        """`component` (whip, ws, claims, ...) is where it came in, `dialect` the one expected there.

        Raises `SessionError` with the broken rule as its code.
        """
        rule = refusal(text)
        if rule is not None:
            self.report(text, rule, component=component, dialect=dialect)
            raise SessionError(rule.value, f"the session id breaks the rule {rule.value}")

    def report(self, text: str, rule: IdRule, *, component: str, dialect: Dialect) -> None:
        SESSION_ID_INVALID.labels(component, dialect.value, rule.value).inc()
        kind = _Kind(component, dialect, rule)
        now_ms = self._now_ms()
        budget = self._budgets.setdefault(kind, WarningBudget(now_ms))
        if budget.admit(now_ms):
            log.warning(
                "session.id_invalid",
                component=component,
                dialect=dialect.value,
                rule=rule.value,
                shown=quote(text),
                chars=len(text),
            )
        self._summarize(kind, budget, now_ms)

    async def run(self) -> None:
        """Write the summaries of floods that have ended, for ever."""
        while True:
            await anyio.sleep(SUMMARY_MS / 1000)
            self.flush()

    def flush(self) -> None:
        """Write the summaries that are due."""
        now_ms = self._now_ms()
        for kind, budget in self._budgets.items():
            self._summarize(kind, budget, now_ms)

    def _summarize(self, kind: _Kind, budget: WarningBudget, now_ms: int) -> None:
        held_back = budget.take_held_back(now_ms)
        if held_back:
            log.warning(
                "session.id_invalid_many",
                component=kind.component,
                dialect=kind.dialect.value,
                rule=kind.rule.value,
                count=held_back,
            )


def quote(text: str) -> str:
    """The beginning of a text from outside as printable ASCII that can forge no log line."""
    return text[:_SHOWN_CHARS].encode("unicode_escape").decode("ascii")
