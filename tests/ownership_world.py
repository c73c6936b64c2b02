"""A world of workers around two logs, in which time is a number: what the tests of ownership play in.

Records take a while to land and to be read, each stream and each reader for itself, so that streams overtake
one another. Workers are killed, stopped and continued, cut off the log and put back.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from voxthread.core.owners import PartitionChange, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.core.ownership import Granted, Lost, Ownership
from voxthread.core.workers import ControlRecord, DeathNotice, Suspicion

Written = PartitionChange | ControlRecord
CHANGES = (PartitionClaim, PartitionRelease, PartitionHold)


@dataclass
class Worker:
    id: str
    ownership: Ownership
    claims_read: int
    control_read: int
    has_found_claims: bool = False
    is_alive: bool = True
    is_stopped: bool = False
    is_cut_off: bool = False
    is_leaving: bool = False
    unsent: list[Written] = field(default_factory=list)
    told: list[Granted | Lost] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return self.is_alive and not self.is_stopped


class World:
    def __init__(self, partitions: int, seed: int = 0, *, slowest_ms: int = 20) -> None:
        self.partitions = partitions
        self.now = 1_000_000
        self.claims: list[PartitionChange] = []
        self.control: list[ControlRecord] = []
        self.workers: dict[str, Worker] = {}
        self.owner: dict[int, tuple[int, str | None]] = dict.fromkeys(range(partitions), (0, None))
        self.granted: dict[tuple[int, int], str] = {}
        self.moves = 0
        self.is_log_away = False
        self._random = random.Random(seed)
        self._slowest_ms = slowest_ms
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._waiting: list[Written] = []

    # -- what happens ---------------------------------------------------------------------------------------

    def join(self, worker_id: str = "") -> Worker:
        worker_id = worker_id or f"w{len(self.workers) + 1}"
        ownership = Ownership(worker_id, self.partitions)
        ownership.set_ready(True)
        worker = self.workers[worker_id] = Worker(worker_id, ownership, 0, len(self.control))
        self._poke(worker)

        def find_claims() -> None:
            ownership.catch_up_to(len(self.claims))
            worker.has_found_claims = True
            self._poke(worker)

        self._later(self._delay_ms(), find_claims)
        return worker

    def kill(self, worker: Worker, *, with_notice: bool) -> None:
        worker.is_alive = False
        if with_notice:
            self.notice(worker)

    def notice(self, worker: Worker) -> None:
        self.write(DeathNotice(worker_id=worker.id, by="supervisor"))

    def stop(self, worker: Worker) -> None:
        worker.is_stopped = True

    def resume(self, worker: Worker) -> None:
        worker.is_stopped = False
        self._poke(worker)

    def cut_off(self, worker: Worker) -> None:
        worker.is_cut_off = True

    def put_back(self, worker: Worker) -> None:
        worker.is_cut_off = False
        for record in worker.unsent:
            self.write(record)
        worker.unsent.clear()
        self._poke(worker)

    def drain(self, worker: Worker) -> None:
        worker.is_leaving = True
        worker.ownership.drain()
        self._poke(worker)

    def suspect(self, partition: int) -> None:
        self.write(Suspicion(session_id="s", partition=partition, epoch=self.owner[partition][0]))

    def lose_log(self) -> None:
        self.is_log_away = True

    def bring_log_back(self) -> None:
        self.is_log_away = False
        for record in self._waiting:
            self.write(record)
        self._waiting.clear()

    def run(self, ms: int) -> None:
        until = self.now + ms
        while self._agenda and self._agenda[0][0] <= until:
            at, _, happen = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            happen()
            self.check()
        self.now = until

    # -- what must always hold ------------------------------------------------------------------------------

    def check(self) -> None:
        holders: dict[tuple[int, int], str] = {}
        for worker in self.workers.values():
            for tenure in worker.ownership.held.items() if worker.is_alive else ():
                assert tenure not in holders, "two owners of one epoch"
                holders[tenure] = worker.id
                assert self.granted[tenure] == worker.id, "an owner without a grant"

    def check_settled(self) -> None:
        """Every partition has exactly one owner, who lives; nobody has two more than another."""
        staying = [w for w in self.workers.values() if w.runs and not w.is_leaving]
        for partition, (epoch, owner) in self.owner.items():
            holders = [w.id for w in self.workers.values() if w.runs and partition in w.ownership.held]
            assert holders == [owner], (partition, holders, owner)
            assert owner is not None
            assert self.workers[owner].ownership.held[partition] == epoch
        loads = [len(w.ownership.held) for w in staying]
        assert max(loads) - min(loads) <= 1
        assert sum(loads) == self.partitions

    # -- how it happens -------------------------------------------------------------------------------------

    def loads(self) -> Counter[str]:
        return Counter(owner for _, owner in self.owner.values() if owner is not None)

    def write(self, record: Written) -> None:
        """On its way to the log, which it reaches even if its writer dies meanwhile."""
        if self.is_log_away:
            self._waiting.append(record)
        else:
            self._later(self._delay_ms(), lambda: self._land(record))

    def _land(self, record: Written) -> None:
        if isinstance(record, CHANGES):
            self.claims.append(record)
            self._judge(len(self.claims) - 1, record)
        else:
            self.control.append(record)
        for worker in list(self.workers.values()):
            self._later(self._delay_ms(), lambda worker=worker: self._read(worker, record))

    def _judge(self, position: int, change: PartitionChange) -> None:
        """The rule in its plainest form, for readers who have the whole log."""
        epoch, owner = self.owner[change.partition]
        match change:
            case PartitionClaim(previous_epoch=previous_epoch, worker_id=worker_id):
                if previous_epoch == epoch:
                    self.owner[change.partition] = (position + 1, worker_id)
                    self.granted[change.partition, position + 1] = worker_id
                    self.moves += 1
            case PartitionRelease(epoch=of_epoch, worker_id=worker_id):
                if (of_epoch, worker_id) == (epoch, owner):
                    self.owner[change.partition] = (epoch, None)

    def _read(self, worker: Worker, hint: Written) -> None:
        if not worker.runs or worker.is_cut_off:
            return
        if isinstance(hint, CHANGES):
            while worker.has_found_claims and worker.claims_read < len(self.claims):
                position = worker.claims_read
                worker.claims_read += 1
                worker.told += worker.ownership.handle_claim(position, self.claims[position], self.now)
        else:
            while worker.control_read < len(self.control):
                worker.control_read += 1
                worker.ownership.handle_control(self.control[worker.control_read - 1], self.now)
        self._keep_time(worker)

    def _poke(self, worker: Worker) -> None:
        for stream in (self.claims, self.control):
            if stream:
                self._later(self._delay_ms(), lambda hint=stream[-1]: self._read(worker, hint))
        self._later(0, lambda: self._keep_time(worker))

    def _keep_time(self, worker: Worker) -> None:
        if not worker.runs:
            return
        for effect in worker.ownership.handle_deadline(self.now):
            if worker.is_cut_off:
                worker.unsent.append(effect)
            else:
                self.write(effect)
        deadline = worker.ownership.deadline()
        assert deadline > self.now, "it would spin"
        self._later(deadline - self.now, lambda: self._keep_time_at(worker, deadline))

    def _keep_time_at(self, worker: Worker, deadline: int) -> None:
        if worker.ownership.deadline() == deadline:
            self._keep_time(worker)

    def _later(self, ms: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + ms, next(self._numbers), happen))

    def _delay_ms(self) -> int:
        return self._random.randrange(1, self._slowest_ms)
