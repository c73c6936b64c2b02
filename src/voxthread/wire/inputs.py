"""Inputs of the turn machine on the log: private records that replay re-drives.

    {"v": 1, "kind": "input", "session_id": "...", "epoch": 0, "seq": 7, "now": 1763...,
     "type": "SpeechStarted", "data": {"speech_ms": 96}, "effects_digest": "5c06a9f1"}

They share `voxthread.events` with the public events, whose headers tell the two apart; their `seq` counts
apart too. A null `type` is a deadline that fired; a `MachineStarted` comes before the inputs of each owner.
"""

import typing

import msgspec

from voxthread.core.inputs import Input
from voxthread.core.replay import MachineStarted, Told
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.log import Record

INPUT_VERSION = 1

_TYPES: dict[str, type[Input | MachineStarted]] = {
    kind.__name__: kind for kind in (*typing.get_args(Input), MachineStarted)
}


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
    effects_digest: str | None = None
    """Of the effects the input had (`core.replay`); None where an older version wrote the record."""
    kind: typing.Literal["input"] = "input"
    v: int = INPUT_VERSION


_decoder = msgspec.json.Decoder(InputRecord)


def encode_input(
    told: Told,
    *,
    session_id: str,
    epoch: int,
    seq: int,
    now: int,
    in_position: int,
    effects_digest: str,
) -> Record:
    record = InputRecord(
        session_id=session_id,
        epoch=epoch,
        seq=seq,
        now=now,
        in_position=in_position,
        type=None if told is None else type(told).__name__,
        data={} if told is None else msgspec.to_builtins(told, order="deterministic"),
        effects_digest=effects_digest,
    )
    return Record(session_id, msgspec.json.encode(record))


def decode_input(value: bytes) -> tuple[InputRecord, Told]:
    """The record and what was told, None for a deadline. Raises `MalformedRecordError`."""
    try:
        record = _decoder.decode(value)
        if record.v != INPUT_VERSION:
            raise MalformedRecordError(f"input version {record.v}, this reads {INPUT_VERSION}")
        return record, None if record.type is None else msgspec.convert(record.data, _TYPES[record.type])
    except (KeyError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise MalformedRecordError(f"not an input: {error}") from None
