"""Which workers live: those that all have heard of on the log and that no death notice is about.

Whoever finds another silent for a lease writes the notice, so that all act on it at one place of the log.
Silence means death only to who listens: a worker that was stopped, or cut off from the log, has heard nobody
for as long. So its clock for the silence of others is its own heartbeats as they come back: each proves that
it was there to listen, and has read everything before it on the log.
"""

from dataclasses import dataclass


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
    """`by` has seen this worker's process end, or has heard nothing of it for a lease."""

    worker_id: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """This session's output is overdue from the owner of this epoch: it is gone, or its agent is slow."""

    session_id: str
    partition: int
    epoch: int


ControlRecord = Heartbeat | DeathNotice | Suspicion


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessPolicy:
    lease_ms: int = 1_000
    """Of a worker silent for so long others say that it is dead."""
    quiet_ms: int = 400
    """Of a worker that is suspected so much silence is enough: two heartbeats that did not come."""
    pause_ms: int = 500
    """A longer pause between two heartbeats of one's own counts as no more."""
    settling_ms: int = 2_000
    """After such a pause, or a way there and back, of a lease: how long the others have to come back."""
    forget_ms: int = 60_000
    """How long a dead worker is remembered."""


@dataclass(slots=True)
class _Worker:
    heard_ms: int
    """By the clock of `Workers`."""
    is_ready: bool = False
    is_dead: bool = False
    """By notice; only a first heartbeat ends it."""


class Workers:
    """What one worker knows of all, itself included."""

    __slots__ = ("_clock_ms", "_echo_ms", "_policy", "_settled_ms", "_worker_id", "_workers")

    def __init__(self, worker_id: str, policy: LivenessPolicy) -> None:
        self._worker_id = worker_id
        self._policy = policy
        self._workers: dict[str, _Worker] = {}
        self._echo_ms: int | None = None
        self._clock_ms = 0
        self._settled_ms = 0

    def is_current(self, now: int) -> bool:
        """Whether the log is there: a heartbeat written less than a lease ago has come back."""
        return self._echo_ms is not None and now - self._echo_ms < self._policy.lease_ms

    def is_live(self, worker_id: str) -> bool:
        worker = self._workers.get(worker_id)
        return worker is not None and not worker.is_dead

    def is_quiet(self, worker_id: str) -> bool:
        """Whether a word of it is overdue, which alone means little."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return True
        return max(worker.heard_ms, self._settled_ms) <= self._clock_ms - self._policy.quiet_ms

    def ready(self) -> list[str]:
        """The workers that live and may own partitions, in an order that all share."""
        return sorted(name for name, worker in self._workers.items() if worker.is_ready)

    def note(self, worker_id: str) -> None:
        """Whoever claims was there to do it."""
        self._workers.setdefault(worker_id, _Worker(self._clock_ms)).heard_ms = self._clock_ms

    def silent(self) -> list[str]:
        """Those whose lease is over; each has another one until it is said again."""
        oldest_ms = self._clock_ms - self._policy.lease_ms
        silent = [
            worker_id
            for worker_id, worker in self._workers.items()
            if not worker.is_dead and max(worker.heard_ms, self._settled_ms) <= oldest_ms
        ]
        for worker_id in silent:
            self._workers[worker_id].heard_ms = self._clock_ms
        return silent

    def handle_death(self, worker_id: str) -> None:
        self._workers[worker_id] = _Worker(self._clock_ms, is_dead=True)

    def handle_heartbeat(self, beat: Heartbeat, now: int) -> bool:
        """Return whether anything but the time has changed."""
        before = self._workers.get(beat.worker_id)
        if before is not None and before.is_dead and not beat.is_first:
            return False  # it was still on its way when its worker died
        has_changed = before is None or before.is_dead or before.is_ready != beat.is_ready
        if beat.worker_id == self._worker_id:
            has_changed = has_changed or not self.is_current(now)
            self._hear_echo(beat.at_ms, now)
        self._workers[beat.worker_id] = _Worker(self._clock_ms, beat.is_ready)
        return has_changed

    def _hear_echo(self, at_ms: int, now: int) -> None:
        pause_ms = 0 if self._echo_ms is None else at_ms - self._echo_ms
        if pause_ms < 0 or at_ms > now:
            return  # overtaken by a later one, or of an earlier life by another clock
        self._echo_ms = at_ms
        if max(pause_ms, now - at_ms) < self._policy.lease_ms:
            self._clock_ms += min(pause_ms, self._policy.pause_ms)
        else:
            self._settled_ms = self._clock_ms + self._policy.settling_ms
        forgotten_ms = self._clock_ms - self._policy.forget_ms
        for worker_id, worker in list(self._workers.items()):
            if worker.is_dead and worker.heard_ms < forgotten_ms:
                del self._workers[worker_id]
