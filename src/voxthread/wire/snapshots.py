"""A session on `voxthread.state`: what its next owner starts from. The newest record of a key counts.

    session_...            the session: its turn machine, and how far its streams were read
    attempt-session_...    what is held against it since owners died while it was at work
    partition-0            how far the owner of the partition has read

An empty value is the tombstone of a session that has ended, with its owner's epoch in a header. A newer
version of Voxthread reads the snapshots of an older one (rolling deploys): fields are only ever added, with
defaults. Whatever an older version must not touch raises `SNAPSHOT_VERSION`.
"""

from typing import TypeVar

import msgspec

from voxthread.core.attempts import Attempt
from voxthread.core.turn_state import TurnSnapshot
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.facts import SessionOpened
from voxthread.wire.log import Record

SNAPSHOT_VERSION = 1


class SessionSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything up to the inputs and events counted here is folded into `turn`."""

    session_id: str
    epoch: int
    opened: SessionOpened
    turn: TurnSnapshot
    event_seq: int
    """Number of the last public event."""
    input_seq: int
    """Number of the last input of the turn machine."""
    events_position: int
    """Where on `voxthread.events` the records after those may begin."""
    in_position: int
    """The last record of `voxthread.in` that was dealt with."""
    audio_position: int
    """Where on `voxthread.in` the audio begins that the open utterance, or the next one, is made of."""
    out_position: int
    """Where on `voxthread.out` audio of the live reply may begin."""
    frontend_session_id: str | None = None
    has_greeted: bool = False
    has_said_goodbye: bool = False
    at_ms: int = 0
    """When it was written; 0 where the writer did not say."""
    v: int = SNAPSHOT_VERSION


class SnapshotHead(msgspec.Struct, frozen=True, kw_only=True):
    """What tells which of a session's snapshots is the newest: read in a quarter of the time of the whole."""

    session_id: str
    epoch: int
    v: int = SNAPSHOT_VERSION


class PartitionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the owner of a partition has read `voxthread.in`: later sessions have no snapshot yet."""

    in_position: int
    epoch: int
    v: int = SNAPSHOT_VERSION


class _AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    attempt: Attempt
    v: int = SNAPSHOT_VERSION


class _Versioned(msgspec.Struct):
    v: int = SNAPSHOT_VERSION


class NewerSnapshotError(MalformedRecordError):
    """A newer version has written of this session: it is not for this one to go on with."""


_Snapshot = TypeVar("_Snapshot", SessionSnapshot, SnapshotHead)

_encoder = msgspec.json.Encoder()
_version_decoder = msgspec.json.Decoder(_Versioned)
_decoder = msgspec.json.Decoder(SessionSnapshot)
_head_decoder = msgspec.json.Decoder(SnapshotHead)
_progress_decoder = msgspec.json.Decoder(PartitionProgress)
_attempt_decoder = msgspec.json.Decoder(_AttemptRecord)

_PROGRESS_PREFIX = "partition-"
_ATTEMPT_PREFIX = "attempt-"
_EPOCH_HEADER = "epoch"


def encode_snapshot(snapshot: SessionSnapshot) -> Record:
    return Record(snapshot.session_id, _encoder.encode(snapshot))


def encode_tombstone(session_id: str, epoch: int) -> Record:
    """`epoch`: of the owner that ended the session."""
    return Record(session_id, b"", ((_EPOCH_HEADER, str(epoch).encode()),))


def tombstone_epoch(record: Record) -> int | None:
    """None if it does not say, or in no way that can be understood."""
    value = dict(record.headers).get(_EPOCH_HEADER, b"")
    return int(value) if value.isdigit() and len(value) < 20 else None


def decode_snapshot(value: bytes) -> SessionSnapshot:
    """Raises `MalformedRecordError`, of which `NewerSnapshotError` is one."""
    return _decode(_decoder, value)


def decode_snapshot_head(value: bytes) -> SnapshotHead:
    """Raises as `decode_snapshot`, but not for what is malformed behind the head."""
    return _decode(_head_decoder, value)


def _decode(decoder: msgspec.json.Decoder[_Snapshot], value: bytes) -> _Snapshot:
    try:
        read = decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse_newer(_version_of(value))
        raise MalformedRecordError(f"not a snapshot: {error}") from None
    _refuse_newer(read.v)
    return read


def _version_of(value: bytes) -> int:
    """0 for what does not say."""
    try:
        return _version_decoder.decode(value).v
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0


def _refuse_newer(version: int) -> None:
    if version > SNAPSHOT_VERSION:
        raise NewerSnapshotError(f"snapshot version {version}, this reads up to {SNAPSHOT_VERSION}")


def encode_progress(partition: int, progress: PartitionProgress) -> Record:
    return Record(f"{_PROGRESS_PREFIX}{partition}", _encoder.encode(progress))


def is_progress(key: str) -> bool:
    return key.startswith(_PROGRESS_PREFIX)


def decode_progress(value: bytes) -> PartitionProgress:
    """Raises `MalformedRecordError`."""
    try:
        return _progress_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(f"not a progress: {error}") from None


def encode_attempt(session_id: str, attempt: Attempt | None) -> Record:
    """None: nothing is held against the session any more."""
    value = b"" if attempt is None else _encoder.encode(_AttemptRecord(attempt=attempt))
    return Record(f"{_ATTEMPT_PREFIX}{session_id}", value)


def is_attempt(key: str) -> bool:
    return key.startswith(_ATTEMPT_PREFIX)


def decode_attempt(record: Record) -> tuple[str, Attempt | None]:
    """The session and what is held against it. Raises `MalformedRecordError`."""
    session_id = record.key.removeprefix(_ATTEMPT_PREFIX)
    try:
        return session_id, _attempt_decoder.decode(record.value).attempt if record.value else None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(f"not an attempt: {error}") from None
