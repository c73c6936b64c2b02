"""What `voxthread.dlq` holds: a record nobody could use, as it was; headers say where it came from and why.

Between them lie the notes of records that an operator has appended to their stream again.
"""

from typing import Final

import msgspec

from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.log import Record, StoredRecord, Stream

MAX_VALUE_BYTES: Final = 512 * 1024
"""Of a longer value only the beginning is kept; a minute of speech, or a session, is whole."""

POISON_UTTERANCE: Final = "poison.utterance"
POISON_REPLY: Final = "poison.reply"
POISON_AUDIO: Final = "poison.audio"
POISON_RECORD: Final = "poison.record"
POISON_SESSION: Final = "poison.session"

_RETRY_OF = "retry_of"
_MAX_HEADER_BYTES = 1024
_MAX_HEADERS = 32
_ORIGIN_HEADERS = 6


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """`record` is as it was, but for a value cut short: `size_bytes` is what it had."""

    error: str
    stream: Stream
    partition: int
    position: int
    size_bytes: int
    at_ms: int
    """When it was put aside."""
    record: Record

    @property
    def is_whole(self) -> bool:
        return self.size_bytes == len(self.record.value)


class RetryNote(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letter at `retried` was appended to its stream again, at these `positions`."""

    retried: int
    positions: tuple[int, ...]


_note_encoder = msgspec.json.Encoder()
_note_decoder = msgspec.json.Decoder(RetryNote)


def dead_letter(stored: StoredRecord, *, stream: Stream, partition: int, error: str, at_ms: int) -> Record:
    """The record for `voxthread.dlq`: key, value and headers as they were, and six headers more.

    `error` says what is wrong with it and holds nothing of its value.
    """
    record = stored.record
    origin = (
        ("error", error.encode(errors="replace")),
        ("stream", stream.encode()),
        ("partition", str(partition).encode()),
        ("position", str(stored.position).encode()),
        ("size_bytes", str(len(record.value)).encode()),
        ("at_ms", str(at_ms).encode()),
    )
    kept = tuple((name, value) for name, value in record.headers if len(value) <= _MAX_HEADER_BYTES)
    return Record(record.key, record.value[:MAX_VALUE_BYTES], (*kept[:_MAX_HEADERS], *origin))


def read_dead_letter(record: Record) -> DeadLetter | RetryNote:
    """Raises `MalformedRecordError` for what is neither."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    try:
        if "error" not in headers:
            return _note_decoder.decode(record.value)
        original = Record(record.key, record.value, record.headers[:-_ORIGIN_HEADERS])
        return DeadLetter(
            error=headers["error"],
            stream=Stream(headers["stream"]),
            partition=int(headers["partition"]),
            position=int(headers["position"]),
            size_bytes=int(headers["size_bytes"]),
            at_ms=int(headers["at_ms"]),
            record=original,
        )
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise MalformedRecordError(f"not a dead letter: {error}") from None


def retry_note(session_id: str, note: RetryNote) -> Record:
    return Record(session_id, _note_encoder.encode(note))


def retry_of(record: Record, position: int) -> Record:
    """The record to append to its stream again: an operator wants it, so no fence holds it back."""
    return Record(record.key, record.value, (*record.headers, (_RETRY_OF, str(position).encode())))


def is_retry(record: Record) -> bool:
    return any(name == _RETRY_OF for name, _ in record.headers)
