"""Claims on `voxthread.claims`: who a session is, which frontend id names it, and who owns a partition.

    {"v": 1, "claim": {"kind": "alias.claim", "session_id": "...", "principal": "...", ...}}

A claim asks; the order of the log grants. Every process folds the same records in the same order and so
comes to the same answer (`sessions.table`, `core.owners`), whichever of them asked. The fold of owners passes
over the claims of sessions; that of sessions asks it who may still end one.
"""

from typing import assert_never

import msgspec

from voxthread.core.owners import PartitionChange, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.log import Record

CLAIM_VERSION = 1


class _Claim(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    at_ms: int


class SessionClaim(_Claim, tag="session.claim", frozen=True):
    """Make a session, with its alias if it has one from the start: both are granted or neither.

    `token_sha256` is the digest of the session's first token, so that any process can verify the token and
    none can read it.
    """

    session_id: str
    principal: str
    agent: str
    partition: int
    token_sha256: bytes
    frontend_session_id: str | None = None
    media_id: str = ""
    """Which life of which media process hosts the session's first leg, under epoch 0."""
    resume_sha256: bytes = b""
    """Digest of the token that moves the leg, once."""


class LegClaim(_Claim, tag="leg.claim", frozen=True):
    """Host the session from here on, under this claim's position as epoch.

    Granted if the session lives and `resume_sha256` is the digest of its current resume token, or is None
    (whoever asks has proved itself by the session token). Once granted only `next_resume_sha256` resumes it.
    """

    session_id: str
    media_id: str
    resume_sha256: bytes | None
    next_resume_sha256: bytes


class SessionRelease(_Claim, tag="session.release", frozen=True):
    """The session is over: its id, its tokens and its alias name nothing any more.

    A media process may only end what it hosts: with a `media_id` the release is granted if that is still the
    one of the session's leg. An orchestrator may only end what it owns: with an `epoch`, if the session's
    partition has had no newer one.
    """

    session_id: str
    reason: str
    media_id: str = ""
    epoch: int = 0


class AliasClaim(_Claim, tag="alias.claim", frozen=True):
    """Name a session that lives and has no alias. `principal` must be the session's own."""

    session_id: str
    principal: str
    frontend_session_id: str


class AliasRelease(_Claim, tag="alias.release", frozen=True):
    """Take the alias of a session away, in both directions."""

    session_id: str
    frontend_session_id: str


class TokenClaim(_Claim, tag="token.claim", frozen=True):
    """Another token for a session that lives; the oldest of many stops working."""

    session_id: str
    token_sha256: bytes


class ReaderCaughtUp(_Claim, tag="reader.caught_up", frozen=True):
    """Claims nothing: whoever reads its own has folded everything that was granted before it."""


Claim = SessionClaim | LegClaim | SessionRelease | AliasClaim | AliasRelease | TokenClaim | ReaderCaughtUp
"""Of sessions. Those of partitions are `core.owners.PartitionChange`."""


class _PartitionClaim(_Claim, tag="partition.claim", frozen=True):
    partition: int
    previous_epoch: int
    worker_id: str


class _PartitionRelease(_Claim, tag="partition.release", frozen=True):
    partition: int
    epoch: int
    worker_id: str


class _PartitionHold(_Claim, tag="partition.hold", frozen=True):
    partition: int
    epoch: int
    worker_id: str


class ClaimRecord(msgspec.Struct, frozen=True, kw_only=True):
    claim: Claim | _PartitionClaim | _PartitionRelease | _PartitionHold
    v: int = CLAIM_VERSION


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ClaimRecord)


def encode_claim(claim: Claim) -> Record:
    key = "" if isinstance(claim, ReaderCaughtUp) else claim.session_id
    return Record(key, _encoder.encode(ClaimRecord(claim=claim)))


def encode_partition_change(change: PartitionChange, at_ms: int) -> Record:
    claim: _PartitionClaim | _PartitionRelease | _PartitionHold
    match change:
        case PartitionClaim(partition=partition, previous_epoch=epoch, worker_id=worker_id):
            claim = _PartitionClaim(partition=partition, previous_epoch=epoch, worker_id=worker_id, at_ms=at_ms)
        case PartitionRelease(partition=partition, epoch=epoch, worker_id=worker_id):
            claim = _PartitionRelease(partition=partition, epoch=epoch, worker_id=worker_id, at_ms=at_ms)
        case PartitionHold(partition=partition, epoch=epoch, worker_id=worker_id):
            claim = _PartitionHold(partition=partition, epoch=epoch, worker_id=worker_id, at_ms=at_ms)
        case _:
            assert_never(change)
    return Record(str(change.partition), _encoder.encode(ClaimRecord(claim=claim)))


def decode_claim(value: bytes) -> Claim | PartitionChange:
    """Raises `MalformedRecordError`, also for a kind or version this reader does not know."""
    try:
        record = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(f"not a claim: {error}") from None
    if record.v != CLAIM_VERSION:
        raise MalformedRecordError(f"claim version {record.v}, this reads {CLAIM_VERSION}")
    match record.claim:
        case _PartitionClaim(partition=partition, previous_epoch=epoch, worker_id=worker_id):
            return PartitionClaim(partition=partition, previous_epoch=epoch, worker_id=worker_id)
        case _PartitionRelease(partition=partition, epoch=epoch, worker_id=worker_id):
            return PartitionRelease(partition=partition, epoch=epoch, worker_id=worker_id)
        case _PartitionHold(partition=partition, epoch=epoch, worker_id=worker_id):
            return PartitionHold(partition=partition, epoch=epoch, worker_id=worker_id)
        case claim:
            return claim
