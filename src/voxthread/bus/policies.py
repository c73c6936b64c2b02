"""What each stream keeps and for how long, on every bus that outlives its process."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from voxthread.core.failures import BusError
from voxthread.wire.log import Record, Stream

MIB: Final = 1024 * 1024
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

RECORD_MAX_BYTES: Final = 2 * MIB
"""Key, value and headers. A second of speech is 3 KB, a long conversation's snapshot some 100 KB."""

COMPACTION_LAG_MS: Final = MINUTE_MS
"""A compacted stream keeps every record this long, so readers that follow it miss none."""

TOMBSTONE_MS: Final = HOUR_MS
"""A compacted stream keeps an empty value, which ends its key, this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Records older than `age_ms` and all but the newest `partition_bytes` go; the newest record never.

    A compacted stream also drops what has a newer record of the same key, or an empty value.
    """

    age_ms: int
    partition_bytes: int
    compacted: bool = False


POLICIES: Final[Mapping[Stream, Policy]] = MappingProxyType(
    {
        Stream.IN: Policy(age_ms=10 * MINUTE_MS, partition_bytes=64 * MIB),
        Stream.OUT: Policy(age_ms=10 * MINUTE_MS, partition_bytes=64 * MIB),
        Stream.EVENTS: Policy(age_ms=7 * DAY_MS, partition_bytes=256 * MIB),
        Stream.STATE: Policy(age_ms=7 * DAY_MS, partition_bytes=256 * MIB, compacted=True),
        Stream.CLAIMS: Policy(age_ms=7 * DAY_MS, partition_bytes=64 * MIB),
        Stream.CONTROL: Policy(age_ms=HOUR_MS, partition_bytes=64 * MIB),
        Stream.DLQ: Policy(age_ms=7 * DAY_MS, partition_bytes=64 * MIB),
    }
)


def size_bytes(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key.encode()) + len(record.value) + headers


def refuse_oversized(record: Record) -> None:
    """Raises `BusError` `bus.record_too_large`: no bus stores it, so what works on one works on all."""
    if (size := size_bytes(record)) > RECORD_MAX_BYTES:
        raise BusError("bus.record_too_large", f"a record of {size} bytes; the most is {RECORD_MAX_BYTES}")
