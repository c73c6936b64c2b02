"""Records on their way to a log that may be slow or refuse."""

import anyio
import pytest

from voxthread.core.failures import BusError
from voxthread.media.outbox import MAX_AUDIO_MS, Outbox
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


class ScriptedBus:
    """A log whose next appends fail as told."""

    partitions = 1

    def __init__(self, *failures: BusError) -> None:
        self.failures = list(failures)
        self.stored: list[bytes] = []

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        if self.failures:
            raise self.failures.pop(0)
        self.stored.append(record.value)
        return len(self.stored)


def record(value: bytes) -> Record:
    return Record("session_1753590741399040_5cc15fe6", value)


async def test_records_are_written_in_order_until_closed() -> None:
    bus = ScriptedBus()
    outbox = Outbox(bus, 0)  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.run)
        await anyio.wait_all_tasks_blocked()
        outbox.put(record(b"a"))
        outbox.put(record(b"b"), audio_ms=60)
        outbox.close()
        outbox.put(record(b"too late"))
    assert bus.stored == [b"a", b"b"]


async def test_retryable_failure_is_retried_and_other_ones_skip_the_record() -> None:
    bus = ScriptedBus(BusError("bus.busy", "", retryable=True), BusError("bus.no_such_partition", ""))
    outbox = Outbox(bus, 0)  # type: ignore[arg-type]
    outbox.put(record(b"refused"))
    outbox.put(record(b"b"))
    outbox.close()
    await outbox.run()
    assert bus.stored == [b"b"]


async def test_full_outbox_drops_the_oldest_audio_and_no_fact() -> None:
    bus = ScriptedBus()
    outbox = Outbox(bus, 0)  # type: ignore[arg-type]
    outbox.put(record(b"fact"))
    for index in range(MAX_AUDIO_MS // 60 + 2):
        outbox.put(record(b"%d" % index), audio_ms=60)
    outbox.close()
    await outbox.run()
    assert bus.stored[:2] == [b"fact", b"2"]
    assert len(bus.stored) == 1 + MAX_AUDIO_MS // 60
