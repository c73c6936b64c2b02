"""Every decoder of the log, given anything at all: a record, or `MalformedRecordError`; nothing else, ever."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core import events, inputs
from voxthread.core.attempts import Attempt
from voxthread.core.owners import PartitionClaim
from voxthread.core.replay import effects_digest
from voxthread.core.turn_state import TurnSnapshot
from voxthread.core.workers import Heartbeat
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, encode_audio
from voxthread.wire.claims import decode_claim, encode_partition_change
from voxthread.wire.control import decode_control, encode_control
from voxthread.wire.dead_letter import MAX_VALUE_BYTES, DeadLetter, dead_letter, read_dead_letter
from voxthread.wire.events import Envelope, decode_event, encode_event
from voxthread.wire.facts import decode_in_fact, decode_out_fact
from voxthread.wire.inputs import decode_input, encode_input
from voxthread.wire.log import Record, StoredRecord, Stream
from voxthread.wire.snapshots import (
    PartitionProgress,
    SessionSnapshot,
    decode_attempt,
    decode_progress,
    decode_snapshot,
    encode_attempt,
    encode_progress,
    encode_snapshot,
)
from voxthread.wire.stamp import Stamp

pytestmark = pytest.mark.unit

SESSION_ID = "session_1753590741399040_5cc15fe6"
OPENED = facts.SessionOpened(agent="hotel", principal="p", via="whip", created_at_ms=1)


def snapshot() -> Record:
    return encode_snapshot(
        SessionSnapshot(
            session_id=SESSION_ID,
            epoch=1,
            opened=OPENED,
            turn=TurnSnapshot(at_ms=1),
            event_seq=1,
            input_seq=1,
            events_position=0,
            in_position=0,
            audio_position=0,
            out_position=0,
        )
    )


def event() -> Record:
    told = events.UserTranscript(turn_id=1, utterance_id=1, text="hello", final=True)
    return encode_event(
        Envelope(session_id=SESSION_ID, frontend_session_id=SESSION_ID, epoch=1, seq=1, at_ms=1, event=told)
    )


def told() -> Record:
    fact = inputs.TranscriptUpdated(utterance_id=1, text="hello", final=True)
    return encode_input(
        fact,
        session_id=SESSION_ID,
        epoch=1,
        seq=1,
        now=1,
        in_position=1,
        effects_digest=effects_digest([]),
    )


def _attempt(value: bytes) -> object:
    return decode_attempt(Record(f"attempt-{SESSION_ID}", value))


def _letter(value: bytes) -> object:
    return read_dead_letter(Record("", value))


Decode = Callable[[bytes], object]
STAMP = Stamp(SESSION_ID, epoch=1)
JSON: dict[str, tuple[Decode, Record]] = {
    "in": (decode_in_fact, STAMP.in_fact(OPENED)),
    "playout": (
        decode_in_fact,
        STAMP.in_fact(facts.PlayoutProgress(turn_id=1, played_ms=1, queued_ms=1, state="playing")),
    ),
    "out": (decode_out_fact, STAMP.out_fact(facts.ReplyEnded(turn_id=1, total_ms=1))),
    "event": (decode_event, event()),
    "input": (decode_input, told()),
    "snapshot": (decode_snapshot, snapshot()),
    "progress": (decode_progress, encode_progress(0, PartitionProgress(in_position=1, epoch=1))),
    "attempt": (
        _attempt,
        encode_attempt(SESSION_ID, Attempt(work="turn 1", progress=(1,), answers=0, deaths=1)),
    ),
    "claim": (
        decode_claim,
        encode_partition_change(PartitionClaim(partition=0, previous_epoch=0, worker_id="w"), 1),
    ),
    "control": (
        decode_control,
        encode_control(Heartbeat(worker_id="w", at_ms=1, is_first=True, is_ready=True)),
    ),
}
DECODERS = {**{name: decode for name, (decode, _) in JSON.items()}, "audio": decode_audio, "dlq": _letter}

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def decodes_or_refuses(decode: Decode, value: bytes) -> None:
    with suppress(MalformedRecordError):
        decode(value)


@pytest.mark.parametrize("name", DECODERS)
@given(value=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_a_record_or_malformed(name: str, value: bytes) -> None:
    decodes_or_refuses(DECODERS[name], value)


@pytest.mark.parametrize("name", JSON)
@given(data=st.data())
def test_a_record_with_any_of_its_fields_changed_is_a_record_or_malformed(
    name: str, data: st.DataObject
) -> None:
    decode, record = JSON[name]
    tree = json.loads(record.value)
    at: Any = tree
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
        else:
            at[key] = data.draw(_anything)
            break
    decodes_or_refuses(decode, json.dumps(tree).encode(errors="replace"))


@pytest.mark.parametrize("name", JSON)
@given(data=st.data())
def test_a_record_with_bytes_changed_or_cut_off_is_a_record_or_malformed(
    name: str, data: st.DataObject
) -> None:
    decode, record = JSON[name]
    value = bytearray(record.value)
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_refuses(decode, bytes(value[: data.draw(st.integers(0, len(value)))]))


@given(data=st.data())
def test_audio_with_bytes_changed_or_cut_off_is_audio_or_malformed(data: st.DataObject) -> None:
    value = bytearray(encode_audio(AudioRecord(epoch=1, seq=1, timestamp=0, packets=(bytes(40),) * 3)))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_refuses(decode_audio, bytes(value[: data.draw(st.integers(0, len(value)))]))


@given(value=st.binary(max_size=50), headers=st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9))))
def test_any_record_is_put_aside_as_it_was(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    record = Record(SESSION_ID, value, tuple(headers[:30]))
    letter = dead_letter(StoredRecord(7, record), stream=Stream.IN, partition=3, error="bad", at_ms=5)
    read = read_dead_letter(letter)
    assert isinstance(read, DeadLetter)
    assert read.record == record
    assert read.is_whole
    assert (read.stream, read.partition, read.position, read.error, read.at_ms) == (Stream.IN, 3, 7, "bad", 5)


def test_ten_megabytes_are_put_aside_in_part() -> None:
    record = Record(SESSION_ID, bytes(10 * 1024 * 1024), (("huge", bytes(2 * 1024 * 1024)),))
    letter = dead_letter(StoredRecord(7, record), stream=Stream.IN, partition=3, error="bad", at_ms=5)
    read = read_dead_letter(letter)
    assert isinstance(read, DeadLetter)
    assert not read.is_whole
    assert len(read.record.value) == MAX_VALUE_BYTES
    assert not read.record.headers
