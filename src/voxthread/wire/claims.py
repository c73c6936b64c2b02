"""Claims on `voxthread.claims`: who a session is, and which frontend id names it.

    {"v": 1, "claim": {"kind": "alias.claim", "session_id": "...", "principal": "...", ...}}

A claim asks; the order of the log grants. Every process folds the same records in the same order and so
comes to the same answer (`sessions.table`), whichever of them asked.
"""

import msgspec

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


class SessionRelease(_Claim, tag="session.release", frozen=True):
    """The session is over: its id, its token and its alias name nothing any more."""

    session_id: str
    reason: str


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


Claim = SessionClaim | SessionRelease | AliasClaim | AliasRelease | TokenClaim | ReaderCaughtUp


class ClaimRecord(msgspec.Struct, frozen=True, kw_only=True):
    claim: Claim
    v: int = CLAIM_VERSION


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ClaimRecord)


def encode_claim(claim: Claim) -> Record:
    key = "" if isinstance(claim, ReaderCaughtUp) else claim.session_id
    return Record(key, _encoder.encode(ClaimRecord(claim=claim)))


def decode_claim(value: bytes) -> Claim:
    """Raises `MalformedRecordError`, also for a kind or version this reader does not know."""
    try:
        record = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(f"not a claim: {error}") from None
    if record.v != CLAIM_VERSION:
        raise MalformedRecordError(f"claim version {record.v}, this reads {CLAIM_VERSION}")
    return record.claim
