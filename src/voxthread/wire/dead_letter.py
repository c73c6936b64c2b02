"""What `voxthread.dlq` holds: a record nobody could use, as it was; headers say where it came from and why."""

from voxthread.wire.log import Record, StoredRecord, Stream


def dead_letter(stored: StoredRecord, *, stream: Stream, partition: int, error: str) -> Record:
    """The record for `voxthread.dlq`: key, value and headers as they were, and four headers more.

    `error` says what is wrong with it and holds nothing of its value.
    """
    record = stored.record
    origin = (
        ("error", error.encode()),
        ("stream", stream.encode()),
        ("partition", str(partition).encode()),
        ("position", str(stored.position).encode()),
    )
    return Record(record.key, record.value, (*record.headers, *origin))
