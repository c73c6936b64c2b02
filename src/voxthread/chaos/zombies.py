"""What a process that was taken for dead still wrote of a session, for readers to refuse."""

from collections.abc import Iterable
from contextlib import aclosing

from voxthread.chaos.server import ChaosServer
from voxthread.wire.audio import MalformedRecordError, decode_audio, is_audio
from voxthread.wire.facts import decode_out_fact
from voxthread.wire.log import Record, Stream


async def late_records(server: ChaosServer, session_id: str) -> int:
    """How many records for the session's caller stand behind one of a newer epoch. Raises `BusError`."""
    partition = server.attendance.partition_of(session_id)
    if partition is None:
        return 0
    head = await server.bus.head(Stream.OUT, partition)
    position = await server.bus.oldest(Stream.OUT, partition)
    records: list[Record] = []
    if position < head:
        async with aclosing(server.bus.read(Stream.OUT, partition, position)) as stored:
            async for each in stored:
                records.append(each.record)
                if each.position >= head - 1:
                    break
    return late_among(record for record in records if record.key == session_id)


def late_among(records: Iterable[Record]) -> int:
    """How many of a session's records are of an older epoch than one before them."""
    newest = late = 0
    for record in records:
        try:
            value = record.value
            epoch = decode_audio(value).epoch if is_audio(value) else decode_out_fact(value).epoch
        except MalformedRecordError:
            continue
        late += epoch < newest
        newest = max(newest, epoch)
    return late
