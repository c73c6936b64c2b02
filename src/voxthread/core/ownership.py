"""What one worker does about partitions: claim the orphaned, give some away, release all when it leaves.

Pure. The worker feeds it both streams in log order, `voxthread.claims` in full, `voxthread.control` from when
it came, and carries out what `handle_deadline` returns. It owns a partition from `Granted` to `Lost`, which
only the log decides: neither an append that fails nor a log that is away changes what is owned.

While the log is away nothing is claimed. How silence is told from not listening: `workers`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from voxthread.core.balance import claim_order, giver_and_taker, score
from voxthread.core.owners import Owners, PartitionChange, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.core.workers import ControlRecord, DeathNotice, Heartbeat, LivenessPolicy, Suspicion, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipPolicy:
    liveness: LivenessPolicy = field(default_factory=LivenessPolicy)
    heartbeat_ms: int = 200
    rank_ms: int = 50
    """Whoever is second in line waits so long for the first to claim, the third twice as long."""
    retry_ms: int = 1_000
    """After a claim or release was written, how long until it is written again."""
    round_ms: int = 250
    """From any change of owners or workers to a move that is only for the sake of balance."""
    suspicion_ms: int = 2_000
    """How long a suspicion is worth a claim, should the owner be quiet too: one that sends heartbeats mends a
    reply that does not go on itself."""
    repeat_ms: int = 24 * 3_600_000
    repeat_records: int = 50_000
    """After so long, or so many records on the claims, owners say again what they hold."""


@dataclass(frozen=True, slots=True)
class Granted:
    """This worker owns the partition; `epoch` goes on everything it writes there."""

    partition: int
    epoch: int
    is_orphan: bool = False
    """Its owner has not released it: it died, or was taken for dead."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The partition is somebody else's, or nobody's; what is still written under `epoch` may be refused."""

    partition: int
    epoch: int


Effect = PartitionChange | Heartbeat | DeathNotice


@dataclass(slots=True)
class _Orphan:
    """A partition to be claimed: who is first in line, and when this worker does it."""

    first: str
    claim_at_ms: int


class Ownership:
    """One worker's part. `worker_id` may have been used before; what that life still owns is released."""

    def __init__(self, worker_id: str, partitions: int, policy: OwnershipPolicy | None = None) -> None:
        self._worker_id = worker_id
        self._partitions = range(partitions)
        self._claims_head: int | None = None
        self._policy = policy or OwnershipPolicy()
        self._owners = Owners()
        self._workers = Workers(worker_id, self._policy.liveness)
        self._held: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        self._orphans: dict[int, _Orphan] = {}
        self._suspected: dict[int, tuple[int, int]] = {}
        self._is_ready = False
        self._is_draining = False
        self._is_unheard = True
        self._beat_at_ms = 0
        self._look_at_ms: int | None = None
        self._silent: list[str] = []
        self._changed_ms = 0
        self._repeated: tuple[int, int] | None = None

    @property
    def held(self) -> Mapping[int, int]:
        """The partitions this worker owns and the epoch of each."""
        return self._held

    # -- what the worker wants ----------------------------------------------------------------------------

    def set_ready(self, is_ready: bool) -> None:
        """Begin, or stop, to take partitions; those held stay."""
        self._is_ready = is_ready
        self._beat_at_ms = 0

    def drain(self) -> None:
        """Leave: take nothing more and release everything. There is no way back."""
        self._is_draining = True
        self.set_ready(False)
        self._look_at_ms = 0

    # -- what the log says --------------------------------------------------------------------------------

    def catch_up_to(self, claims_head: int) -> None:
        """Claim nothing before `voxthread.claims` has been read up to this position; called before it is."""
        self._claims_head = claims_head
        self._look_at_ms = 0

    def skip_claim(self, position: int, now: int) -> None:
        """A record on `voxthread.claims` that is about something else."""
        if not self._has_caught_up:
            self._look_at_ms = now
        self._owners.skip(position)

    def handle_claim(self, position: int, change: PartitionChange, now: int) -> list[Granted | Lost]:
        self._workers.note(change.worker_id)
        if not self._has_caught_up:
            self._look_at_ms = now
        is_orphan = self._owners[change.partition].owner is not None
        if not self._owners.apply(position, change):
            return []
        self._changed_ms = self._look_at_ms = now
        partition = change.partition
        tenure = self._owners[partition]
        changes: list[Granted | Lost] = []
        held = self._held.get(partition)
        if held is not None and (tenure.epoch, tenure.owner) != (held, self._worker_id):
            del self._held[partition]
            changes.append(Lost(partition, held))
        if tenure.owner == self._worker_id and self._has_asked(change):
            self._held[partition] = tenure.epoch
            changes.append(Granted(partition, tenure.epoch, is_orphan))
        return changes

    def handle_control(self, record: ControlRecord, now: int) -> None:
        match record:
            case Heartbeat():
                if self._workers.handle_heartbeat(record, now):
                    self._changed_ms = self._look_at_ms = now
                if record.worker_id == self._worker_id:
                    self._is_unheard = self._is_unheard and not record.is_first
                    self._silent += self._workers.silent()
            case DeathNotice(worker_id=worker_id):
                self._workers.handle_death(worker_id)
                if worker_id == self._worker_id:
                    self._is_unheard = True
                    self._beat_at_ms = now
                self._look_at_ms = now
            case Suspicion(partition=partition, epoch=epoch):
                if partition in self._partitions:
                    self._suspected[partition] = (epoch, now + self._policy.suspicion_ms)
                    self._look_at_ms = now
            case _:
                assert_never(record)

    # -- what time says -----------------------------------------------------------------------------------

    def deadline(self) -> int:
        """When `handle_deadline` wants to be called; never far, for there is always a next heartbeat."""
        if self._silent:
            return 0
        return self._beat_at_ms if self._look_at_ms is None else min(self._beat_at_ms, self._look_at_ms)

    def handle_deadline(self, now: int, occupied: Collection[int] = ()) -> list[Effect]:
        """What to append now: partition changes to `voxthread.claims`, the rest to `voxthread.control`.

        `occupied` partitions have calls, which balance moves last.
        """
        effects: list[Effect] = [
            DeathNotice(worker_id=worker_id, by=self._worker_id) for worker_id in self._silent
        ]
        self._silent.clear()
        if now >= self._beat_at_ms:
            self._beat_at_ms = now + self._policy.heartbeat_ms
            effects.append(
                Heartbeat(
                    worker_id=self._worker_id,
                    at_ms=now,
                    is_first=self._is_unheard,
                    is_ready=self._is_ready,
                )
            )
            effects += self._repeat(now)
        if self._look_at_ms is not None and now >= self._look_at_ms:
            effects += self._look(now, occupied)
        return effects

    def _repeat(self, now: int) -> list[PartitionHold]:
        position = self._owners.next_position
        if self._repeated is None:
            self._repeated = (now, position)
        at_ms, at_position = self._repeated
        if now - at_ms < self._policy.repeat_ms and position - at_position < self._policy.repeat_records:
            return []
        self._repeated = (now, position)
        return [
            PartitionHold(partition=partition, epoch=epoch, worker_id=self._worker_id)
            for partition, epoch in self._held.items()
        ]

    def _look(self, now: int, occupied: Collection[int]) -> list[PartitionClaim | PartitionRelease]:
        """Decide everything anew, and when to look again if nothing happens until then."""
        self._look_at_ms = None
        if self._is_draining:
            return self._release_all(self._owned(), now)
        if not self._workers.is_current(now) or not self._has_caught_up:
            return []  # the heartbeat or the record that changes this makes it look again
        if leftovers := [partition for partition in self._owned() if partition not in self._held]:
            return self._release_all(leftovers, now)
        ready = self._workers.ready()
        orphans = {partition for partition in self._partitions if self._is_orphan(partition, now)}
        if any(self._is_suspected(partition, now) for partition in self._suspected):
            self._look_no_later_than(now + self._policy.heartbeat_ms)
        loads = self._loads(ready, orphans)
        if self._worker_id not in ready:
            self._orphans.clear()
            return []
        if not orphans:
            self._orphans.clear()
            return self._give(loads, now, occupied)
        self._line_up(orphans, ready, loads, now)
        return self._claim_due(now)

    def _owned(self) -> list[int]:
        """By the worker's id: what is held, and what is left over from an earlier life under the same id."""
        return [p for p in self._partitions if self._owners[p].owner == self._worker_id]

    def _is_orphan(self, partition: int, now: int) -> bool:
        tenure = self._owners[partition]
        if tenure.owner is None:
            return True
        if tenure.owner == self._worker_id:
            return False
        if self._is_suspected(partition, now) and self._workers.is_quiet(tenure.owner):
            return True
        return not self._workers.is_live(tenure.owner)

    def _is_suspected(self, partition: int, now: int) -> bool:
        epoch, until_ms = self._suspected.get(partition, (0, 0))
        return epoch == self._owners[partition].epoch and now < until_ms

    def _loads(self, ready: list[str], orphans: set[int]) -> dict[str, int]:
        loads = dict.fromkeys(ready, 0)
        for partition in self._partitions:
            owner = self._owners[partition].owner
            if partition not in orphans and owner in loads:
                loads[owner] += 1
        return loads

    def _line_up(self, orphans: set[int], ready: list[str], loads: dict[str, int], now: int) -> None:
        """Give each new orphan its line; whoever was found first stays so while others come and go."""
        self._orphans = {p: orphan for p, orphan in self._orphans.items() if p in orphans}
        for orphan in self._orphans.values():
            if orphan.first in loads:
                loads[orphan.first] += 1
        for partition in sorted(orphans - self._orphans.keys()):
            tenure = self._owners[partition]
            leaver = tenure.owner or tenure.released_by
            others = [worker_id for worker_id in ready if worker_id != leaver]
            line = claim_order(partition, others or ready, loads)
            loads[line[0]] += 1
            if self._worker_id in line:
                wait_ms = line.index(self._worker_id) * self._policy.rank_ms
            else:  # given away by this worker, which takes it back only if nobody else does
                wait_ms = self._policy.liveness.lease_ms
            self._orphans[partition] = _Orphan(line[0], now + wait_ms)

    def _claim_due(self, now: int) -> list[PartitionClaim | PartitionRelease]:
        claims: list[PartitionClaim | PartitionRelease] = []
        for partition, orphan in self._orphans.items():
            if now >= orphan.claim_at_ms:
                orphan.claim_at_ms = now + self._policy.retry_ms
                epoch = self._asked[partition] = self._owners[partition].epoch
                claims.append(
                    PartitionClaim(partition=partition, previous_epoch=epoch, worker_id=self._worker_id)
                )
            self._look_no_later_than(orphan.claim_at_ms)
        return claims

    def _give(
        self, loads: Mapping[str, int], now: int, occupied: Collection[int]
    ) -> list[PartitionClaim | PartitionRelease]:
        """One partition of the one who has most, each round: all see alike who that is and that it is over."""
        match giver_and_taker(loads):
            case (self._worker_id, taker):
                round_ms = self._changed_ms + self._policy.round_ms
            case _:
                return []
        if self._workers.is_quiet(taker):  # it may be gone, and what was just taken from it must not go back
            round_ms = max(round_ms, now + self._policy.heartbeat_ms)
        if now < round_ms:
            self._look_no_later_than(round_ms)
            return []
        self._changed_ms = now
        self._look_no_later_than(now + self._policy.retry_ms)
        given = max(self._held, key=lambda partition: (partition not in occupied, score(taker, partition)))
        return [self._release(given)]

    def _release_all(self, partitions: Collection[int], now: int) -> list[PartitionClaim | PartitionRelease]:
        self._orphans.clear()
        if partitions:
            self._look_at_ms = now + self._policy.retry_ms
        return [self._release(partition) for partition in partitions]

    def _release(self, partition: int) -> PartitionRelease:
        epoch = self._owners[partition].epoch
        return PartitionRelease(partition=partition, epoch=epoch, worker_id=self._worker_id)

    def _has_asked(self, change: PartitionChange) -> bool:
        """Whether this life wrote the claim; one of an earlier life, under the same id, grants it nothing."""
        if not isinstance(change, PartitionClaim):
            return False
        return self._asked.pop(change.partition, None) == change.previous_epoch

    @property
    def _has_caught_up(self) -> bool:
        return self._claims_head is not None and self._owners.next_position >= self._claims_head

    def _look_no_later_than(self, at_ms: int) -> None:
        if self._look_at_ms is None or at_ms < self._look_at_ms:
            self._look_at_ms = at_ms
