"""What `voxthread.control` and the partition claims look like on the log."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.owners import PartitionChange, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.core.workers import ControlRecord, DeathNotice, Heartbeat, Suspicion
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.claims import decode_claim, encode_partition_change
from voxthread.wire.control import decode_control, encode_control

pytestmark = pytest.mark.unit

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(0, 2**53)
control_records: st.SearchStrategy[ControlRecord] = st.one_of(
    st.builds(
        Heartbeat,
        worker_id=texts,
        at_ms=numbers,
        is_first=st.booleans(),
        is_ready=st.booleans(),
        sessions=numbers,
    ),
    st.builds(DeathNotice, worker_id=texts, by=texts),
    st.builds(Suspicion, session_id=texts, partition=numbers, epoch=numbers),
)
changes: st.SearchStrategy[PartitionChange] = st.one_of(
    st.builds(PartitionClaim, partition=numbers, previous_epoch=numbers, worker_id=texts),
    st.builds(PartitionRelease, partition=numbers, epoch=numbers, worker_id=texts),
    st.builds(PartitionHold, partition=numbers, epoch=numbers, worker_id=texts),
)


@given(control_records)
def test_a_control_record_is_read_as_it_was_written(record: ControlRecord) -> None:
    encoded = encode_control(record)
    assert decode_control(encoded.value) == record
    assert encoded.key == (str(record.partition) if isinstance(record, Suspicion) else record.worker_id)


@given(changes, numbers)
def test_a_partition_change_is_read_as_it_was_written(change: PartitionChange, at_ms: int) -> None:
    encoded = encode_partition_change(change, at_ms)
    assert decode_claim(encoded.value) == change
    assert json.loads(encoded.value)["claim"]["at_ms"] == at_ms
    assert encoded.key == str(change.partition)


def test_a_field_of_a_later_version_is_ignored() -> None:
    value = b'{"v":1,"later":1,"kind":"worker.died","data":{"worker_id":"w","by":"b","more":{}}}'
    assert decode_control(value) == DeathNotice(worker_id="w", by="b")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"v":1,"kind":"worker.promoted","data":{"worker_id":"w"}}',
        b'{"v":2,"kind":"worker.died","data":{"worker_id":"w","by":"b"}}',
        b'{"v":1,"kind":"worker.died","data":{"worker_id":"w"}}',
        b'{"v":1,"kind":"worker.died","data":{"worker_id":7,"by":"b"}}',
        b'{"v":1,"kind":"worker.died","data":[]}',
    ],
)
def test_what_is_no_control_record_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        decode_control(value)


@given(st.binary())
def test_any_bytes_are_a_control_record_or_malformed(value: bytes) -> None:
    with suppress(MalformedRecordError):
        decode_control(value)
