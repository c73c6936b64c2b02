"""How partitions are spread over workers: evenly, with as few moves as can be, and by no one's command.

Rendezvous hashing: each pair of worker and partition has a score that everybody computes alike.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def score(worker_id: str, partition: int) -> int:
    """The same in every process: FNV-1a of the worker, mixed with the partition by SplitMix64."""
    mixed = (_fnv1a(worker_id) + (partition + 1) * 0x9E37_79B9_7F4A_7C15) & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D0_49BB_1331_11EB & _MASK
    return mixed ^ mixed >> 31


def claim_order(partition: int, workers: Collection[str], loads: Mapping[str, int]) -> list[str]:
    """Who should claim a partition, first the one with the fewest, among equals the highest score."""
    return sorted(workers, key=lambda worker_id: (loads[worker_id], -score(worker_id, partition)))


def giver_and_taker(loads: Mapping[str, int]) -> tuple[str, str] | None:
    """Who should give a partition to whom, None when no move makes it more even."""
    if not loads:
        return None
    giver = min(loads, key=lambda worker_id: (-loads[worker_id], worker_id))
    taker = min(loads, key=lambda worker_id: (loads[worker_id], worker_id))
    return (giver, taker) if loads[giver] - loads[taker] > 1 else None


@lru_cache(maxsize=1024)
def _fnv1a(text: str) -> int:
    digest = 0xCBF2_9CE4_8422_2325
    for byte in text.encode():
        digest = (digest ^ byte) * 0x100_0000_01B3 & _MASK
    return digest
