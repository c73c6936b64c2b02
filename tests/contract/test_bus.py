"""The memory bus against the contract of every bus, and what is its own: retention."""

import pytest

from contract.bus_contract import BusContract, numbered, take, values
from voxthread.bus.memory import RECORD_OVERHEAD_BYTES, RETAINED_BYTES, MemoryBus
from voxthread.core.failures import BusError
from voxthread.wire.log import Record, Stream

pytestmark = pytest.mark.contract


class TestMemoryBus(BusContract):
    hop_ms = 2

    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus()

    @pytest.fixture
    def other_bus(self, bus: MemoryBus) -> MemoryBus:
        return bus


def small_bus(retained_records: int) -> MemoryBus:
    record_bytes = RECORD_OVERHEAD_BYTES + len("session_1") + 1
    return MemoryBus(retained_bytes={**RETAINED_BYTES, Stream.IN: retained_records * record_bytes})


@pytest.mark.anyio
async def test_a_full_partition_drops_its_oldest_records_only() -> None:
    bus = small_bus(retained_records=4)
    for record in numbered(10):
        await bus.append(Stream.IN, 0, record)
    assert values(await take(bus, Stream.IN, 0, 6, 4)) == [b"6", b"7", b"8", b"9"]
    assert await bus.head(Stream.IN, 0) == 10


@pytest.mark.anyio
async def test_a_record_larger_than_the_partition_is_kept_until_the_next() -> None:
    bus = small_bus(retained_records=4)
    await bus.append(Stream.IN, 0, Record("session_1", b"x" * 100_000))
    assert len(await take(bus, Stream.IN, 0, 0, 1)) == 1


@pytest.mark.anyio
async def test_a_reader_overtaken_by_retention_is_told_so() -> None:
    bus = small_bus(retained_records=4)
    await bus.append(Stream.IN, 0, Record("session_1", b"a"))
    reader = bus.read(Stream.IN, 0, 0)
    await anext(reader)
    for record in numbered(6):
        await bus.append(Stream.IN, 0, record)
    with pytest.raises(BusError) as raised:
        await anext(reader)
    assert (raised.value.code, raised.value.retryable) == ("bus.position_expired", False)
