"""Which workers live, as far as one of them can tell from the log.

Silence means death only to who listens. A worker that was stopped, or cut off from the log, has heard nobody
for as long, so what it hears of itself is its measure: a heartbeat of its own that comes back proves that
everything before it on the log has been read.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A worker lives. `at_ms` is its own clock and means something to itself only.

    `is_first` begins a life: without it a death notice stands. A worker is `ready` when it may own partitions:
    its models are warm, and it is not leaving.
    """

    worker_id: str
    at_ms: int
    is_first: bool
    is_ready: bool
    sessions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeathNotice:
    """`by` has seen the process of this worker end."""

    worker_id: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """This session's output is overdue from the owner of this epoch."""

    session_id: str
    partition: int
    epoch: int


ControlRecord = Heartbeat | DeathNotice | Suspicion


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessPolicy:
    lease_ms: int = 1_000
    """A worker silent for so long is dead."""
    current_ms: int = 500
    """The newest heartbeat of one's own that came back is younger than this, or one has not read everything."""
    settling_ms: int = 2_000
    """After an outage of the log, how long the others have to come back before their silence counts."""
    forget_ms: int = 60_000
    """A worker silent for so long is not kept in mind."""


@dataclass(slots=True)
class _Worker:
    seen_ms: int
    is_ready: bool = False
    is_dead: bool = False


_NEVER: Final = -(2**62)
_NOBODY: Final = _Worker(seen_ms=_NEVER)


class Workers:
    """What one worker knows of all, itself included."""

    __slots__ = ("_echo_ms", "_policy", "_trusted_ms", "_worker_id", "_workers")

    def __init__(self, worker_id: str, policy: LivenessPolicy) -> None:
        self._worker_id = worker_id
        self._policy = policy
        self._workers: dict[str, _Worker] = {}
        self._echo_ms: int | None = None
        self._trusted_ms = 0

    def is_current(self, now: int) -> bool:
        """Whether everything written until just now has been read."""
        return self._echo_ms is not None and now - self._echo_ms <= self._policy.current_ms

    def is_live(self, worker_id: str, now: int) -> bool:
        """Neither noticed dead nor silent for a lease; one never heard of has a lease to say something."""
        worker = self._workers.get(worker_id, _NOBODY)
        return not worker.is_dead and now < self._lease_ends_ms(worker)

    def ready(self, now: int) -> list[str]:
        """The workers that live and may own partitions, in an order that all share."""
        return sorted(
            worker_id
            for worker_id, worker in self._workers.items()
            if worker.is_ready and self.is_live(worker_id, now)
        )

    def next_death_ms(self, now: int) -> int | None:
        """When the first of those who live is dead unless it is heard of."""
        ends = (self._lease_ends_ms(worker) for worker in self._workers.values() if not worker.is_dead)
        return min((end for end in ends if end > now), default=None)

    def handle_heartbeat(self, beat: Heartbeat, now: int) -> bool:
        """Return whether this says more than that things are as they were."""
        worker = self._workers.get(beat.worker_id)
        if worker is not None and worker.is_dead and not beat.is_first:
            return False  # it was still on its way when its worker died
        was_as_now = (
            worker is not None
            and not worker.is_dead
            and worker.is_ready == beat.is_ready
            and self.is_live(beat.worker_id, now)
        )
        self._workers[beat.worker_id] = _Worker(now, beat.is_ready)
        if beat.worker_id == self._worker_id:
            was_as_now = self._hear_echo(beat.at_ms, now) and was_as_now
        return not was_as_now

    def handle_death(self, worker_id: str, now: int) -> None:
        self._workers[worker_id] = _Worker(now, is_dead=True)

    def note(self, worker_id: str, now: int) -> None:
        """Whoever claims lives."""
        self._workers.setdefault(worker_id, _Worker(now)).seen_ms = now

    def forget_the_silent(self, now: int) -> None:
        for worker_id, worker in list(self._workers.items()):
            if now - worker.seen_ms > self._policy.forget_ms:
                del self._workers[worker_id]

    def _lease_ends_ms(self, worker: _Worker) -> int:
        return max(worker.seen_ms, self._trusted_ms) + self._policy.lease_ms

    def _hear_echo(self, at_ms: int, now: int) -> bool:
        """Return whether the view was current all the time since the echo before."""
        if now - at_ms > self._policy.current_ms:
            return False  # written before a pause: what came after it is yet to be read
        was_current = self.is_current(now)
        if self._echo_ms is None:
            self._trusted_ms = now
        elif not was_current:
            self._trusted_ms = now + self._policy.settling_ms
        self._echo_ms = at_ms
        return was_current
