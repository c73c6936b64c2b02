"""Every record of the log: what is written is read back, and rubbish is one kind of error."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core import events, inputs
from voxthread.core.events import PUBLIC_EVENTS, Event
from voxthread.core.failures import Failure
from voxthread.core.inputs import Input
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, encode_audio, is_audio
from voxthread.wire.events import Envelope, decode_event, encode_event, format_instant, is_public, parse_instant
from voxthread.wire.facts import (
    FlushPlayout,
    InFact,
    InRecord,
    OutFact,
    OutRecord,
    PlayoutProgress,
    decode_in_fact,
    decode_out_fact,
    encode_fact,
)
from voxthread.wire.inputs import decode_input, encode_input
from voxthread.wire.stamp import Fence, Stamp

pytestmark = pytest.mark.unit

_u32 = st.integers(0, 2**32 - 1)
_audio = st.builds(
    AudioRecord,
    epoch=_u32,
    seq=st.integers(0, 2**64 - 1),
    timestamp=_u32,
    turn_id=_u32,
    packets=st.lists(st.binary(max_size=200), max_size=8).map(tuple),
    packet_ms=st.integers(1, 120),
)
_failures = st.builds(Failure, code=st.text(), stage=st.text(), retryable=st.booleans(), detail=st.text())
st.register_type_strategy(Failure, _failures)
_events = st.one_of([st.builds(kind) for kind in PUBLIC_EVENTS])
_inputs = st.one_of([st.builds(kind) for kind in typing.get_args(Input)])
_in_facts = st.one_of([st.builds(kind) for kind in typing.get_args(InFact)])
_out_facts = st.one_of([st.builds(kind) for kind in typing.get_args(OutFact)])


@given(_audio)
def test_audio_round_trips(record: AudioRecord) -> None:
    encoded = encode_audio(record)
    assert is_audio(encoded)
    assert decode_audio(encoded) == record


@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda tail: b"\x01\x01\x14" + tail))
def test_any_bytes_as_audio_are_audio_or_malformed(value: bytes) -> None:
    try:
        decode_audio(value)
    except MalformedRecordError:
        return


@given(_in_facts)
def test_in_facts_round_trip(fact: InFact) -> None:
    record = InRecord(session_id="s", epoch=1, seq=2, fact=fact)
    encoded = encode_fact(record)
    assert not is_audio(encoded)
    assert decode_in_fact(encoded) == record


@given(_out_facts)
def test_out_facts_round_trip(fact: OutFact) -> None:
    record = OutRecord(session_id="s", epoch=1, seq=2, fact=fact)
    assert decode_out_fact(encode_fact(record)) == record


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_as_facts_are_malformed(value: bytes) -> None:
    for decode in (decode_in_fact, decode_out_fact, decode_event, decode_input):
        with pytest.raises(MalformedRecordError):
            decode(value)


def test_unknown_fields_are_ignored_and_unknown_versions_refused() -> None:
    value = b'{"session_id":"s","epoch":0,"seq":1,"fact":{"kind":"playout.flush","turn_id":3,"new":1},"x":2}'
    assert decode_out_fact(value).fact == FlushPlayout(turn_id=3)
    with pytest.raises(MalformedRecordError, match="version 9"):
        decode_out_fact(value.replace(b'"x":2', b'"v":9'))


@given(_events, st.integers(0, 4_000_000_000_000))
def test_events_round_trip_with_their_envelope(event: Event, at_ms: int) -> None:
    envelope = Envelope(
        session_id="session_1753590741399040_5cc15fe6",
        frontend_session_id="session_1753590741399_qlgq6cfjw",
        epoch=3,
        seq=9,
        at_ms=at_ms,
        event=event,
    )
    record = encode_event(envelope)
    assert is_public(record)
    assert decode_event(record.value) == envelope


def test_every_event_class_is_public_and_named() -> None:
    defined = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    assert defined - {Event, events.OwnerEvent} == set(PUBLIC_EVENTS)
    assert len({kind.TYPE for kind in PUBLIC_EVENTS}) == len(PUBLIC_EVENTS)


@given(_inputs, st.integers(0, 2**50))
def test_inputs_round_trip_and_are_private(fact: Input, now: int) -> None:
    record = encode_input(fact, session_id="s", epoch=0, seq=1, now=now, in_position=7, effects_digest="0a")
    assert not is_public(record)
    decoded, same = decode_input(record.value)
    assert (decoded.now, same, decoded.effects_digest) == (now, fact, "0a")


def test_deadline_round_trips_as_no_input() -> None:
    record = encode_input(None, session_id="s", epoch=0, seq=1, now=5, in_position=7, effects_digest="")
    assert decode_input(record.value)[1] is None


def test_every_input_class_is_recorded() -> None:
    defined = {kind for kind in vars(inputs).values() if isinstance(kind, type) and kind is not Failure}
    assert defined == set(typing.get_args(Input))


def test_instants_keep_their_milliseconds() -> None:
    assert format_instant(1_753_590_741_399) == "2025-07-27T04:32:21.399Z"
    assert parse_instant("2025-07-27T04:32:21.399Z") == 1_753_590_741_399


def test_fence_admits_each_record_once_and_no_older_epoch() -> None:
    fence = Fence()
    admitted = [fence.admits(epoch, seq) for epoch, seq in [(0, 1), (0, 1), (0, 3), (1, 1), (0, 9), (1, 2)]]
    assert admitted == [True, False, True, True, False, True]
    assert fence.dropped == 2


def test_stamp_numbers_audio_and_facts_together() -> None:
    stamp = Stamp("s", epoch=7)
    audio = decode_audio(stamp.audio((b"x",), timestamp=0).value)
    progress = PlayoutProgress(turn_id=1, played_ms=0, queued_ms=0, state="playing")
    fact = decode_in_fact(stamp.in_fact(progress).value)
    assert [(audio.epoch, audio.seq), (fact.epoch, fact.seq)] == [(7, 1), (7, 2)]
