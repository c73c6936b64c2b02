"""Where the time of a turn went: stages in milliseconds after the caller's last speech sample."""

from dataclasses import dataclass, field

from voxthread.core.events import TurnTiming

STAGES = (
    "turn_decided",
    "transcript",
    "llm_first_token",
    "first_clause",
    "first_audio",
    "sent",
    "heard",
)


@dataclass(slots=True)
class TurnClock:
    """Marks each stage once. Kept quiet for a speculative turn until it is committed."""

    turn_id: int
    origin_ms: int | None
    """When the caller stopped speaking; None for a reply nobody spoke for."""
    marks: dict[str, int] = field(default_factory=dict)

    def mark(self, stage: str, now: int) -> TurnTiming | None:
        """The timing to publish, or None if the stage was reached before or nothing is timed."""
        if self.origin_ms is None or stage in self.marks:
            return None
        self.marks[stage] = max(0, now - self.origin_ms)
        return self._timing(stage)

    def timings(self) -> list[TurnTiming]:
        return [self._timing(stage) for stage in self.marks]

    def _timing(self, stage: str) -> TurnTiming:
        return TurnTiming(turn_id=self.turn_id, stage=stage, ms=self.marks[stage])
