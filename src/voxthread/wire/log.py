"""The log: what every bus stores, and the contract it keeps.

The contract needs only what any Kafka-protocol broker does well: no consumer groups, commits or
transactions. `tests/contract/bus_contract.py` is its executable form; every adapter passes it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Stream(StrEnum):
    """A stream of the log (a Kafka topic). Each has one kind of writer, named in `docs/architecture.md`."""

    IN = "voxthread.in"
    OUT = "voxthread.out"
    EVENTS = "voxthread.events"
    STATE = "voxthread.state"
    CLAIMS = "voxthread.claims"
    CONTROL = "voxthread.control"
    DLQ = "voxthread.dlq"


SINGLE_PARTITION = frozenset({Stream.CLAIMS, Stream.CONTROL, Stream.DLQ})
"""Streams whose order is shared by everybody, so they have partition 0 only."""

POSITION_GONE = frozenset({"bus.position_expired", "bus.position_lost"})
"""Why reading goes on from another position only."""


@dataclass(frozen=True, slots=True)
class Record:
    """Encoded bytes under a key (the canonical session id)."""

    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    can_wait: bool = field(default=False, compare=False)
    """Whether readers may find it a quarter of a second late: nobody is woken for it. Not stored."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record and its place: positions of a partition are dense or at least strictly increasing."""

    position: int
    record: Record


class Bus(Protocol):
    """An ordered, append-only log of partitions."""

    @property
    def partitions(self) -> int:
        """How many partitions the keyed streams have; sessions are spread over them."""
        ...

    @property
    def closing(self) -> str | None:
        """Why the log is about to take no more records, in words for an operator; None as long as it is not.

        What is under way should then be brought to an end, for which there is some room left.
        """
        ...

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        """Store `record` behind everything appended before it and return its position.

        Returns when the record is stored as durably as the adapter promises; concurrent appends of one
        task are stored in the order of the calls. Raises `BusError` (retryable when a later append may
        succeed); on an error the record may or may not be stored, so readers drop duplicates by
        (session, stream, epoch, seq).
        """
        ...

    def read(self, stream: Stream, partition: int, from_position: int) -> AsyncGenerator[StoredRecord, None]:
        """Yield every record at or after `from_position`, then follow new ones; ends only by closing.

        Raises `BusError` `bus.position_expired` when the record at `from_position` is not kept any more, also
        while following; a compacted stream skips what it dropped. Raises `bus.position_lost` when the log ends
        before the next position: records that were read, or appended, are gone, and others will get their
        positions. Reading goes on from another position only. A retryable `BusError` means that reading
        may go on later from the same position.
        """
        ...

    async def oldest(self, stream: Stream, partition: int) -> int:
        """The position from which everything that is kept can be read; the head when nothing is."""
        ...

    async def head(self, stream: Stream, partition: int) -> int:
        """The position the next appended record will get or exceed."""
        ...
