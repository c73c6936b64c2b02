"""Where the time of a turn went: stages in milliseconds after the caller's last speech sample."""

from voxthread.core.events import TurnTiming

STAGES = (
    "turn_decided",
    "transcript",
    "llm_first_token",
    "first_clause",
    "first_audio",
    "heard",
)


class TurnClock:
    """Marks each stage once. Kept quiet for a speculative turn until it is committed."""

    __slots__ = ("_marks", "_origin_ms", "_turn_id")

    def __init__(self, turn_id: int, origin_ms: int | None) -> None:
        """`origin_ms`: when the caller stopped speaking; None for a reply nobody spoke for."""
        self._turn_id = turn_id
        self._origin_ms = origin_ms
        self._marks: dict[str, int] = {}

    def mark(self, stage: str, now: int) -> TurnTiming | None:
        """The timing to publish, or None if the stage was reached before or nothing is timed."""
        if self._origin_ms is None or stage in self._marks:
            return None
        self._marks[stage] = max(0, now - self._origin_ms)
        return self._timing(stage)

    def timings(self) -> list[TurnTiming]:
        return [self._timing(stage) for stage in self._marks]

    def _timing(self, stage: str) -> TurnTiming:
        return TurnTiming(turn_id=self._turn_id, stage=stage, ms=self._marks[stage])
