"""Inputs of the turn machine on the log: private records that replay re-drives.

    {"v": 1, "kind": "input", "session_id": "...", "epoch": 0, "seq": 7, "now": 1763...,
     "type": "SpeechStarted", "data": {"speech_ms": 96}}

They share `voxthread.events` with the public events, whose headers tell the two apart; their `seq` counts
apart too. A null `type` is a deadline that fired.
"""

import typing

import msgspec

from voxthread.core.inputs import Input
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.log import Record

INPUT_VERSION = 1

_TYPES: dict[str, type[Input]] = {kind.__name__: kind for kind in typing.get_args(Input)}


class InputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`type` and `data` are None and empty where a deadline fired."""

    session_id: str
    epoch: int
    seq: int
    now: int
    in_position: int = -1
    """The newest record of `voxthread.in` that had been dealt with."""
    type: str | None = None
    data: dict[str, object] = {}
    kind: typing.Literal["input"] = "input"
    v: int = INPUT_VERSION


_decoder = msgspec.json.Decoder(InputRecord)


def encode_input(
    fact: Input | None, *, session_id: str, epoch: int, seq: int, now: int, in_position: int
) -> Record:
    record = InputRecord(
        session_id=session_id,
        epoch=epoch,
        seq=seq,
        now=now,
        in_position=in_position,
        type=None if fact is None else type(fact).__name__,
        data={} if fact is None else msgspec.to_builtins(fact),
    )
    return Record(session_id, msgspec.json.encode(record))


def decode_input(value: bytes) -> tuple[InputRecord, Input | None]:
    """The record and its input, None for a deadline. Raises `MalformedRecordError`."""
    try:
        record = _decoder.decode(value)
        if record.v != INPUT_VERSION:
            raise MalformedRecordError(f"input version {record.v}, this reads {INPUT_VERSION}")
        return record, None if record.type is None else msgspec.convert(record.data, _TYPES[record.type])
    except (KeyError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise MalformedRecordError(f"not an input: {error}") from None
