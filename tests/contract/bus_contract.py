"""The contract of `voxthread.wire.log.Bus` as tests; every adapter passes it.

An adapter's test module subclasses `BusContract` and gives two fixtures: `bus`, and `other_bus`, a second
handle on the same log (another process's, where the adapter can be shared; else the same object). The log
may hold records of earlier tests, so each test starts at `head`.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from voxthread.core.failures import BusError
from voxthread.wire.log import SINGLE_PARTITION, Bus, Record, StoredRecord, Stream

PATIENCE_S = 10


async def take(bus: Bus, stream: Stream, partition: int, from_position: int, count: int) -> list[StoredRecord]:
    taken: list[StoredRecord] = []
    with anyio.fail_after(PATIENCE_S):
        async with aclosing(bus.read(stream, partition, from_position)) as reader:
            async for stored in reader:
                taken.append(stored)
                if len(taken) == count:
                    break
    return taken


def values(taken: list[StoredRecord]) -> list[bytes]:
    return [stored.record.value for stored in taken]


def numbered(count: int) -> list[Record]:
    return [Record("session_1", str(n).encode()) for n in range(count)]


def held_resources() -> tuple[int, int, int]:
    return len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))


@pytest.mark.anyio
class BusContract:
    hop_ms: ClassVar[float] = 20
    """Median from append to a waiting reader; an adapter that polls cannot meet a small one."""

    async def test_waiting_readers_find_what_can_wait(self, bus: Bus, other_bus: Bus) -> None:
        """Also one that has read up to it, and nothing else is appended."""
        first = await bus.head(Stream.CONTROL, 0)
        urgent, patient = Record("w", b"urgent"), Record("w", b"patient", can_wait=True)
        async with anyio.create_task_group() as tasks:
            for reader in (bus, other_bus):

                async def follow(reader: Bus = reader) -> None:
                    assert values(await take(reader, Stream.CONTROL, 0, first, 2)) == [b"urgent", b"patient"]

                tasks.start_soon(follow)
            await bus.append(Stream.CONTROL, 0, urgent)
            await take(other_bus, Stream.CONTROL, 0, first, 1)
            await bus.append(Stream.CONTROL, 0, patient)

    # -- what is stored ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "value", [b"x", b"", bytes(range(256)), b"\0" * 1_000_000], ids=["one", "empty", "binary", "1MB"]
    )
    async def test_a_value_is_read_as_it_was_written(self, bus: Bus, value: bytes) -> None:
        start = await bus.head(Stream.OUT, 0)
        await bus.append(Stream.OUT, 0, Record("session_1", value))
        (stored,) = await take(bus, Stream.OUT, 0, start, 1)
        assert stored.record.value == value

    async def test_the_key_and_the_headers_are_kept_in_order(self, bus: Bus) -> None:
        record = Record(
            "session_1753590741399040_5cc15fe6",
            b"v",
            (("ce_type", b"user.transcript"), ("empty", b""), ("twice", b"1"), ("twice", b"\xff\0")),
        )
        start = await bus.head(Stream.EVENTS, 0)
        await bus.append(Stream.EVENTS, 0, record)
        (stored,) = await take(bus, Stream.EVENTS, 0, start, 1)
        assert stored.record == record

    async def test_a_record_of_10_mb_is_refused_and_nothing_else_is(self, bus: Bus) -> None:
        start = await bus.head(Stream.IN, 0)
        async with anyio.create_task_group() as tg:
            tg.start_soon(bus.append, Stream.IN, 0, Record("session_1", b"before"))
            await checkpoint()
            with pytest.raises(BusError) as raised:
                await bus.append(Stream.IN, 0, Record("session_1", b"x" * 10_000_000))
        await bus.append(Stream.IN, 0, Record("session_1", b"after"))
        assert (raised.value.code, raised.value.retryable) == ("bus.record_too_large", False)
        assert values(await take(bus, Stream.IN, 0, start, 2)) == [b"before", b"after"]

    # -- order and positions ----------------------------------------------------------------------------

    async def test_a_partition_keeps_the_order_of_its_appends(self, bus: Bus) -> None:
        records = numbered(300)
        start = await bus.head(Stream.IN, 1)
        positions = [await bus.append(Stream.IN, 1, record) for record in records]
        taken = await take(bus, Stream.IN, 1, start, len(records))
        assert [stored.record for stored in taken] == records
        assert [stored.position for stored in taken] == positions
        assert all(earlier < later for earlier, later in pairwise(positions))

    async def test_concurrent_appends_are_stored_in_the_order_of_the_calls(self, bus: Bus) -> None:
        records = numbered(200)
        start = await bus.head(Stream.IN, 1)
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tg:
                for record in records:
                    tg.start_soon(bus.append, Stream.IN, 1, record)
        assert [stored.record for stored in await take(bus, Stream.IN, 1, start, 200)] == records

    async def test_appends_of_two_handles_are_seen_in_one_order_by_both(self, bus: Bus, other_bus: Bus) -> None:
        start = await bus.head(Stream.CLAIMS, 0)

        async def write(writer: Bus, name: str) -> None:
            for n in range(50):
                await writer.append(Stream.CLAIMS, 0, Record(name, str(n).encode()))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tg:
                tg.start_soon(write, bus, "a")
                tg.start_soon(write, other_bus, "b")
        seen = await take(bus, Stream.CLAIMS, 0, start, 100)
        assert seen == await take(other_bus, Stream.CLAIMS, 0, start, 100)
        for name in ("a", "b"):
            assert [int(s.record.value) for s in seen if s.record.key == name] == list(range(50))

    async def test_partitions_and_streams_are_apart(self, bus: Bus) -> None:
        places = [(Stream.IN, 0), (Stream.IN, 1), (Stream.OUT, 0), (Stream.EVENTS, 1)]
        starts = [await bus.head(*place) for place in places]
        for n, place in enumerate(places):
            await bus.append(*place, Record("session_1", str(n).encode()))
        for n, (place, start) in enumerate(zip(places, starts, strict=True)):
            assert values(await take(bus, *place, start, 1)) == [str(n).encode()]
            assert await bus.head(*place) > start

    @pytest.mark.parametrize("stream", list(Stream))
    async def test_a_partition_that_does_not_exist_is_refused(self, bus: Bus, stream: Stream) -> None:
        beyond = 1 if stream in SINGLE_PARTITION else bus.partitions
        with pytest.raises(BusError) as raised:
            await bus.append(stream, beyond, Record("session_1", b"v"))
        assert (raised.value.code, raised.value.retryable) == ("bus.no_such_partition", False)

    # -- reading ----------------------------------------------------------------------------------------

    async def test_a_reader_in_the_middle_reads_the_rest_then_follows(self, bus: Bus) -> None:
        positions = [await bus.append(Stream.OUT, 2, record) for record in numbered(10)]
        async with aclosing(bus.read(Stream.OUT, 2, positions[6])) as reader:
            with anyio.fail_after(PATIENCE_S):
                got = [await anext(reader) for _ in range(4)]
                await bus.append(Stream.OUT, 2, Record("session_1", b"new"))
                got.append(await anext(reader))
        assert values(got) == [b"6", b"7", b"8", b"9", b"new"]

    async def test_a_reader_that_waits_before_the_first_append_gets_it(self, bus: Bus) -> None:
        start = await bus.head(Stream.STATE, 3)
        got: list[StoredRecord] = []

        async def read() -> None:
            got.extend(await take(bus, Stream.STATE, 3, start, 2))

        async with anyio.create_task_group() as tg:
            tg.start_soon(read)
            await checkpoint()
            for record in numbered(2):
                await bus.append(Stream.STATE, 3, record)
        assert values(got) == [b"0", b"1"]

    async def test_readers_do_not_take_records_from_each_other(self, bus: Bus, other_bus: Bus) -> None:
        start = await bus.head(Stream.EVENTS, 2)
        results: list[list[bytes]] = []

        async def read(reader_bus: Bus) -> None:
            results.append(values(await take(reader_bus, Stream.EVENTS, 2, start, 40)))

        async with anyio.create_task_group() as tg:
            for reader_bus in (bus, other_bus, bus):
                tg.start_soon(read, reader_bus)
            for record in numbered(40):
                await bus.append(Stream.EVENTS, 2, record)
        assert results == [[str(n).encode() for n in range(40)]] * 3

    async def test_a_slow_reader_does_not_hold_up_an_append(self, bus: Bus) -> None:
        start = await bus.head(Stream.IN, 2)
        await bus.append(Stream.IN, 2, Record("session_1", b"first"))
        async with aclosing(bus.read(Stream.IN, 2, start)) as reader:
            with anyio.fail_after(PATIENCE_S):
                await anext(reader)
                for record in numbered(200):
                    await bus.append(Stream.IN, 2, record)
                assert [(await anext(reader)).record for _ in range(200)] == numbered(200)

    async def test_a_waiting_reader_is_woken_by_the_append_not_by_a_timer(
        self, bus: Bus, other_bus: Bus
    ) -> None:
        hops_ms: list[float] = []
        sent_s = 0.0
        waiting = anyio.Event()

        async def read(reader: AsyncIterator[StoredRecord]) -> None:
            nonlocal waiting
            for _ in range(25):
                waiting.set()
                await anext(reader)
                hops_ms.append((perf_counter() - sent_s) * 1000)

        async with aclosing(other_bus.read(Stream.IN, 3, await bus.head(Stream.IN, 3))) as reader:
            with anyio.fail_after(PATIENCE_S):
                async with anyio.create_task_group() as tg:
                    tg.start_soon(read, reader)
                    for n in range(25):
                        await waiting.wait()
                        waiting = anyio.Event()
                        await checkpoint()
                        sent_s = perf_counter()
                        await bus.append(Stream.IN, 3, numbered(25)[n])
        assert median(hops_ms) < self.hop_ms

    # -- head -------------------------------------------------------------------------------------------

    async def test_head_lies_behind_every_record_and_not_beyond_the_next(
        self, bus: Bus, other_bus: Bus
    ) -> None:
        for record in numbered(3):
            head = await bus.head(Stream.CONTROL, 0)
            position = await bus.append(Stream.CONTROL, 0, record)
            assert head <= position < await bus.head(Stream.CONTROL, 0)
            assert position < await other_bus.head(Stream.CONTROL, 0)

    async def test_reading_from_head_skips_what_is_there(self, bus: Bus) -> None:
        await bus.append(Stream.DLQ, 0, Record("session_1", b"old"))
        head = await bus.head(Stream.DLQ, 0)
        await bus.append(Stream.DLQ, 0, Record("session_1", b"new"))
        assert values(await take(bus, Stream.DLQ, 0, head, 1)) == [b"new"]

    async def test_reading_from_the_oldest_gives_all_that_is_kept(self, bus: Bus, other_bus: Bus) -> None:
        positions = [await bus.append(Stream.CLAIMS, 0, record) for record in numbered(3)]
        oldest = await other_bus.oldest(Stream.CLAIMS, 0)
        assert oldest <= positions[0]
        kept = await take(other_bus, Stream.CLAIMS, 0, oldest, positions[2] - oldest + 1)
        assert [stored.position for stored in kept][-3:] == positions

    async def test_the_oldest_is_never_beyond_the_head(self, bus: Bus) -> None:
        for partition in range(bus.partitions):
            assert await bus.oldest(Stream.STATE, partition) <= await bus.head(Stream.STATE, partition)

    # -- closing and cancelling -------------------------------------------------------------------------

    async def test_a_closed_reader_leaves_no_task_thread_or_file(self, bus: Bus) -> None:
        start = await bus.head(Stream.OUT, 3)
        await bus.append(Stream.OUT, 3, Record("session_1", b"v"))
        await take(bus, Stream.OUT, 3, start, 1)
        before = held_resources()
        for _ in range(10):
            await take(bus, Stream.OUT, 3, start, 1)
            with anyio.move_on_after(0):
                await take(bus, Stream.OUT, 3, await bus.head(Stream.OUT, 3), 1)
        assert all(now <= then for now, then in zip(held_resources(), before, strict=True))

    async def test_a_cancelled_reader_loses_nothing_for_the_next_one(self, bus: Bus) -> None:
        start = await bus.head(Stream.EVENTS, 3)
        async with anyio.create_task_group() as tg:
            tg.start_soon(take, bus, Stream.EVENTS, 3, start, 100)
            for record in numbered(5):
                await bus.append(Stream.EVENTS, 3, record)
            tg.cancel_scope.cancel()
        await bus.append(Stream.EVENTS, 3, Record("session_1", b"after"))
        assert values(await take(bus, Stream.EVENTS, 3, start, 6)) == [b"0", b"1", b"2", b"3", b"4", b"after"]

    async def test_a_cancelled_append_is_stored_whole_and_once_or_not_at_all(self, bus: Bus) -> None:
        start = await bus.head(Stream.OUT, 1)
        payload = b"p" * 10_000
        for n in range(40):
            async with anyio.create_task_group() as tg:
                tg.start_soon(bus.append, Stream.OUT, 1, Record(str(n), payload))
                for _ in range(n % 4):
                    await checkpoint()
                tg.cancel_scope.cancel()
        end = await bus.append(Stream.OUT, 1, Record("end", b""))
        keys: list[str] = []
        async with aclosing(bus.read(Stream.OUT, 1, start)) as reader:
            async for stored in reader:
                if stored.position == end:
                    break
                assert stored.record.value == payload
                keys.append(stored.record.key)
        assert len(set(keys)) == len(keys)
        assert set(keys) <= {str(n) for n in range(40)}
