"""Everything on `voxthread.control`: who lives, who has died, who is suspected.

    {"v": 1, "kind": "worker.heartbeat", "data": {"worker_id": "...", "at_ms": 1763..., ...}}

The key is the worker, or the partition a suspicion is about.
"""

import msgspec

from voxthread.core.workers import ControlRecord, DeathNotice, Heartbeat, Suspicion
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.log import Record

CONTROL_VERSION = 1

_TYPES: dict[str, type[ControlRecord]] = {
    "worker.heartbeat": Heartbeat,
    "worker.died": DeathNotice,
    "session.suspected": Suspicion,
}
_KINDS = {kind: name for name, kind in _TYPES.items()}


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    data: msgspec.Raw
    v: int = CONTROL_VERSION


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Envelope)
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()}


def encode_control(record: ControlRecord, *, can_wait: bool = False) -> Record:
    key = str(record.partition) if isinstance(record, Suspicion) else record.worker_id
    data = msgspec.Raw(_encoder.encode(record))
    value = _encoder.encode(_Envelope(kind=_KINDS[type(record)], data=data))
    return Record(key, value, can_wait=can_wait)


def decode_control(value: bytes) -> ControlRecord:
    """Raises `MalformedRecordError`, also for a kind or version this reader does not know."""
    try:
        envelope = _decoder.decode(value)
        if envelope.v != CONTROL_VERSION:
            raise MalformedRecordError(f"control version {envelope.v}, this reads {CONTROL_VERSION}")
        return _decoders[envelope.kind].decode(envelope.data)
    except KeyError:
        raise MalformedRecordError("not a kind of control record this reads") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(f"not a control record: {error}") from None
