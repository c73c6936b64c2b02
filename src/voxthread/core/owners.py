"""Who owns which partition: the fold of the claims, in which every reader of the log comes to the same answer.

A claim names the epoch it means to end and is granted iff that epoch is still current where the log put the
claim. Its position + 1 is the new epoch, so each epoch has one owner by construction, and an older one is
smaller. Decided in docs/adr/0009-ownership-by-claims.md.
"""

from dataclasses import dataclass
from typing import assert_never


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionClaim:
    """Give the partition to this worker, if `previous_epoch` is still its epoch (0: it never had one)."""

    partition: int
    previous_epoch: int
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRelease:
    """The owner of this epoch gives the partition away; anybody may claim it at once."""

    partition: int
    epoch: int
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionHold:
    """The owner of this epoch goes on: said again for readers who come when the claim is not kept any more."""

    partition: int
    epoch: int
    worker_id: str


PartitionChange = PartitionClaim | PartitionRelease | PartitionHold


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """A partition's newest epoch and whose it is; without an owner it is free, and had one if `released_by`."""

    epoch: int = 0
    owner: str | None = None
    released_by: str | None = None


_NEVER_OWNED = Tenure()


class Owners:
    """Fold changes with `apply`, in log order."""

    __slots__ = ("_next_position", "_tenures")

    def __init__(self) -> None:
        self._tenures: dict[int, Tenure] = {}
        self._next_position = 0

    def __getitem__(self, partition: int) -> Tenure:
        return self._tenures.get(partition, _NEVER_OWNED)

    @property
    def next_position(self) -> int:
        """Every record before this position has been folded."""
        return self._next_position

    def skip(self, position: int) -> None:
        """Pass over a record that is about something else."""
        self._next_position = max(self._next_position, position + 1)

    def apply(self, position: int, change: PartitionChange) -> bool:
        """Fold one change and return whether it took effect. A position folded before changes nothing.

        An epoch above the one known was granted by a record that was not kept until this reader came: its
        writer had read it, so it counts. No writer knows an epoch from behind its own position.
        """
        if position < self._next_position:
            return False
        self._next_position = position + 1
        known = self[change.partition]
        match change:
            case PartitionClaim(previous_epoch=epoch):
                tenure = Tenure(epoch=position + 1, owner=change.worker_id)
                takes_effect = epoch >= known.epoch
            case PartitionRelease(epoch=epoch):
                tenure = Tenure(epoch=epoch, released_by=change.worker_id)
                takes_effect = epoch > known.epoch or (epoch, change.worker_id) == (known.epoch, known.owner)
            case PartitionHold(epoch=epoch):
                tenure = Tenure(epoch=epoch, owner=change.worker_id)
                takes_effect = epoch > known.epoch
            case _:
                assert_never(change)
        if not takes_effect or epoch > position:
            return False
        self._tenures[change.partition] = tenure
        return True
