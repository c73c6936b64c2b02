"""A public event in its envelope: the same JSON on the log, on the WebSocket and in `session follow`.

    {"type": "user.transcript", "v": 1, "session_id": "session_...", "frontend_session_id": "session_...",
     "seq": 12, "turn_id": null, "at": "2026-11-22T09:30:00.123Z", "text": "...", "final": true, ...}

`seq` counts the events of a session from 1 without holes. On the log the CloudEvents 1.0 attributes are
record headers, so that a generic Kafka tool can route without parsing. One more header, `principal`, says
whose session it is; it is for the log alone, the JSON that frontends read does not have it.
"""

from datetime import UTC, datetime

import msgspec

from voxthread.core.events import PUBLIC_EVENTS, Event
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.log import Record

EVENT_VERSION = 1

_PRINCIPAL = "principal"

_TYPES = {kind.TYPE: kind for kind in PUBLIC_EVENTS}
_ENVELOPE = ("type", "v", "session_id", "frontend_session_id", "epoch", "seq", "at")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An event, whose it is, and its place in the session's story."""

    session_id: str
    frontend_session_id: str
    epoch: int
    seq: int
    at_ms: int
    event: Event


def event_json(envelope: Envelope) -> dict[str, object]:
    return {
        "type": envelope.event.TYPE,
        "v": EVENT_VERSION,
        "session_id": envelope.session_id,
        "frontend_session_id": envelope.frontend_session_id,
        "epoch": envelope.epoch,
        "seq": envelope.seq,
        "at": format_instant(envelope.at_ms),
        **msgspec.to_builtins(envelope.event),
    }


def encode_event(envelope: Envelope, *, principal: str | None = None) -> Record:
    headers: tuple[tuple[str, bytes], ...] = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{envelope.session_id}/{envelope.epoch}/{envelope.seq}".encode()),
        ("ce_type", envelope.event.TYPE.encode()),
        ("ce_source", b"voxthread/orchestrator"),
        ("ce_subject", envelope.session_id.encode()),
        ("ce_time", format_instant(envelope.at_ms).encode()),
    )
    if principal is not None:
        headers = (*headers, (_PRINCIPAL, principal.encode()))
    return Record(envelope.session_id, msgspec.json.encode(event_json(envelope)), headers)


def is_public(record: Record) -> bool:
    """Whether a record of `voxthread.events` is an event, not a private input of the turn machine."""
    return any(name == "ce_type" for name, _ in record.headers)


def principal_of(record: Record) -> str | None:
    """Whose session an event is of, if its writer said so."""
    return next((value.decode(errors="replace") for name, value in record.headers if name == _PRINCIPAL), None)


def decode_event(value: bytes) -> Envelope:
    """Raises `MalformedRecordError`."""
    try:
        fields = msgspec.json.decode(value, type=dict[str, object])
        kind = _TYPES[str(fields["type"])]
        if fields["v"] != EVENT_VERSION:
            raise MalformedRecordError(f"event version {fields['v']!r}, this reads {EVENT_VERSION}")
        return Envelope(
            session_id=msgspec.convert(fields["session_id"], str),
            frontend_session_id=msgspec.convert(fields["frontend_session_id"], str),
            epoch=msgspec.convert(fields["epoch"], int),
            seq=msgspec.convert(fields["seq"], int),
            at_ms=parse_instant(msgspec.convert(fields["at"], str)),
            event=msgspec.convert({k: v for k, v in fields.items() if k not in _ENVELOPE}, kind),
        )
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise MalformedRecordError(f"not an event: {error}") from None


def format_instant(at_ms: int) -> str:
    """Unix milliseconds as RFC 3339 UTC with milliseconds."""
    instant = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def parse_instant(text: str) -> int:
    """Raises `ValueError`."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
