"""Who is who: the pure fold of the claims, in which every process comes to the same answer.

Sessions live from their granted claim to their release. A session has at most one alias and a (principal,
frontend id) names at most one session; both directions are written and removed together. Each session's leg is
at one media process, and one token at a time moves it. Nothing is ever guessed: what was not granted resolves
to None.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from voxthread.core.ids import FrontendSessionId, IdRule, MediaSessionId, refusal
from voxthread.core.owners import Owners, PartitionChange, PartitionClaim, PartitionHold, PartitionRelease
from voxthread.wire.claims import (
    AliasClaim,
    AliasRelease,
    Claim,
    LegClaim,
    ReaderCaughtUp,
    SessionClaim,
    SessionRelease,
    TokenClaim,
)

MAX_TOKENS: Final = 4
"""Of one session: two doors, and each of them once more after a reload."""


class Refusal(StrEnum):
    """Why a claim was not granted, besides an id that breaks a rule (`IdRule`)."""

    SESSION_TAKEN = "session_taken"
    SESSION_UNKNOWN = "session_unknown"
    SESSION_FORBIDDEN = "session_forbidden"
    SESSION_HAS_ALIAS = "session_has_alias"
    ALIAS_TAKEN = "alias_taken"
    ALIAS_UNKNOWN = "alias_unknown"
    TOKEN_TAKEN = "token_taken"
    RESUME_TOKEN_STALE = "resume_token_stale"
    LEG_MOVED = "leg_moved"
    OWNER_MOVED = "owner_moved"


@dataclass(frozen=True, slots=True)
class HostedLeg:
    """Which life of which media process hosts a session, under which epoch.

    `resume_sha256` is the digest of the one token that moves it; empty if none does.
    """

    media_id: str
    epoch: int
    resume_sha256: bytes


class SessionTable:
    """Fold claims with `apply`, in log order; ask anything in between. No operation walks all sessions."""

    __slots__ = (
        "_by_alias",
        "_by_resume",
        "_by_token",
        "_frontend_ids",
        "_legs",
        "_next_position",
        "_owners",
        "_sessions",
        "_tokens",
    )

    def __init__(self) -> None:
        # Ordered by claim, hence by age; an OrderedDict because the front of a dict that is eaten from
        # the front is found by walking over everything already eaten.
        self._sessions: OrderedDict[str, SessionClaim] = OrderedDict()
        self._frontend_ids: dict[str, str] = {}
        self._by_alias: dict[tuple[str, str], str] = {}
        self._tokens: dict[str, tuple[bytes, ...]] = {}
        self._by_token: dict[bytes, str] = {}
        self._legs: dict[str, HostedLeg] = {}
        self._by_resume: dict[bytes, str] = {}
        self._owners = Owners()
        self._next_position = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def next_position(self) -> int:
        """Every record before this position has been folded."""
        return self._next_position

    def session(self, media_session_id: str) -> SessionClaim | None:
        return self._sessions.get(media_session_id)

    def oldest(self) -> SessionClaim | None:
        return next(iter(self._sessions.values()), None)

    def frontend_id(self, media_session_id: str) -> FrontendSessionId | None:
        alias = self._frontend_ids.get(media_session_id)
        return None if alias is None else FrontendSessionId(alias)

    def media_id(self, principal: str, frontend_session_id: str) -> MediaSessionId | None:
        session_id = self._by_alias.get((principal, frontend_session_id))
        return None if session_id is None else MediaSessionId(session_id)

    def session_of_token(self, token_sha256: bytes) -> SessionClaim | None:
        """Looking a digest up tells by its timing nothing about the token it is the digest of."""
        session_id = self._by_token.get(token_sha256)
        return None if session_id is None else self._sessions[session_id]

    def leg(self, media_session_id: str) -> HostedLeg | None:
        return self._legs.get(media_session_id)

    def session_of_resume_token(self, resume_sha256: bytes) -> SessionClaim | None:
        """The session that the token of this digest would move, once."""
        session_id = self._by_resume.get(resume_sha256)
        return None if session_id is None else self._sessions[session_id]

    def skip(self, position: int) -> None:
        """Pass over a record that is no claim."""
        self._next_position = max(self._next_position, position + 1)

    def apply(self, position: int, claim: Claim | PartitionChange) -> Refusal | IdRule | None:
        """Fold one claim and return why it was refused, None if it was granted. Those of partitions are folded
        to know who may still end a session.

        A record that was folded before, by its position, changes nothing; nor does a claim repeated.
        """
        if position < self._next_position:
            return None
        self._next_position = position + 1
        match claim:
            case SessionClaim():
                return self._claim_session(claim)
            case AliasClaim():
                return self._claim_alias(claim)
            case LegClaim():
                return self._claim_leg(position, claim)
            case SessionRelease():
                return self._release_session(claim)
            case AliasRelease():
                return self._release_alias(claim.session_id, claim.frontend_session_id)
            case TokenClaim():
                return self._claim_token(claim)
            case PartitionClaim() | PartitionRelease() | PartitionHold():
                self._owners.apply(position, claim)
                return None
            case ReaderCaughtUp():
                return None
            case _:
                assert_never(claim)

    def _claim_session(self, claim: SessionClaim) -> Refusal | IdRule | None:
        broken = refusal(claim.session_id)
        if broken is None and claim.frontend_session_id is not None:
            broken = refusal(claim.session_id) or refusal(claim.frontend_session_id)
        if broken is not None:
            return broken
        holder = self._sessions.get(claim.session_id)
        if holder is not None:
            return None if holder == claim else Refusal.SESSION_TAKEN
        if claim.token_sha256 in self._by_token or claim.resume_sha256 in self._by_resume:
            return Refusal.TOKEN_TAKEN
        if claim.frontend_session_id is not None:
            if (claim.principal, claim.frontend_session_id) in self._by_alias:
                return Refusal.ALIAS_TAKEN
            self._bind(claim, claim.frontend_session_id)
        self._sessions[claim.session_id] = claim
        self._tokens[claim.session_id] = (claim.token_sha256,)
        self._by_token[claim.token_sha256] = claim.session_id
        self._host(claim.session_id, HostedLeg(claim.media_id, 0, claim.resume_sha256))
        return None

    def _claim_leg(self, position: int, claim: LegClaim) -> Refusal | None:
        leg = self._legs.get(claim.session_id)
        if leg is None:
            return Refusal.SESSION_UNKNOWN
        if claim.next_resume_sha256 == claim.resume_sha256:
            return Refusal.TOKEN_TAKEN
        holder = self._by_resume.get(claim.next_resume_sha256)
        if holder is not None:
            is_repeated = holder == claim.session_id and leg.media_id == claim.media_id
            return None if is_repeated else Refusal.TOKEN_TAKEN
        if claim.resume_sha256 is not None and self._by_resume.get(claim.resume_sha256) != claim.session_id:
            return Refusal.RESUME_TOKEN_STALE
        self._by_resume.pop(leg.resume_sha256, None)
        self._host(claim.session_id, HostedLeg(claim.media_id, position, claim.next_resume_sha256))
        return None

    def _claim_token(self, claim: TokenClaim) -> Refusal | None:
        if claim.session_id not in self._sessions:
            return Refusal.SESSION_UNKNOWN
        holder = self._by_token.get(claim.token_sha256)
        if holder is not None:
            return None if holder == claim.session_id else Refusal.TOKEN_TAKEN
        tokens = (*self._tokens[claim.session_id], claim.token_sha256)
        for dropped in tokens[:-MAX_TOKENS]:
            del self._by_token[dropped]
        self._tokens[claim.session_id] = tokens[-MAX_TOKENS:]
        self._by_token[claim.token_sha256] = claim.session_id
        return None

    def _claim_alias(self, claim: AliasClaim) -> Refusal | IdRule | None:
        broken = refusal(claim.session_id) or refusal(claim.frontend_session_id)
        if broken is not None:
            return broken
        session = self._sessions.get(claim.session_id)
        if session is None:
            return Refusal.SESSION_UNKNOWN
        if session.principal != claim.principal:
            return Refusal.SESSION_FORBIDDEN
        holder = self._by_alias.get((claim.principal, claim.frontend_session_id))
        if holder is not None:
            return None if holder == claim.session_id else Refusal.ALIAS_TAKEN
        if claim.session_id in self._frontend_ids:
            return Refusal.SESSION_HAS_ALIAS
        self._bind(session, claim.frontend_session_id)
        return None

    def _release_session(self, release: SessionRelease) -> Refusal | None:
        session_id = release.session_id
        session = self._sessions.get(session_id)
        if session is None:
            return Refusal.SESSION_UNKNOWN
        leg = self._legs[session_id]
        if release.media_id not in ("", leg.media_id):
            return Refusal.LEG_MOVED
        if release.epoch and release.epoch < self._owners[session.partition].epoch:
            return Refusal.OWNER_MOVED
        del self._sessions[session_id], self._legs[session_id]
        self._by_resume.pop(leg.resume_sha256, None)
        for token_sha256 in self._tokens.pop(session_id):
            del self._by_token[token_sha256]
        alias = self._frontend_ids.get(session_id)
        if alias is not None:
            self._unbind(session, alias)
        return None

    def _release_alias(self, session_id: str, frontend_session_id: str) -> Refusal | None:
        session = self._sessions.get(session_id)
        if session is None or self._frontend_ids.get(session_id) != frontend_session_id:
            return Refusal.ALIAS_UNKNOWN
        self._unbind(session, frontend_session_id)
        return None

    def _bind(self, session: SessionClaim, frontend_session_id: str) -> None:
        self._frontend_ids[session.session_id] = frontend_session_id
        self._by_alias[session.principal, frontend_session_id] = session.session_id

    def _unbind(self, session: SessionClaim, frontend_session_id: str) -> None:
        del self._frontend_ids[session.session_id]
        del self._by_alias[session.principal, frontend_session_id]

    def _host(self, session_id: str, leg: HostedLeg) -> None:
        self._legs[session_id] = leg
        if leg.resume_sha256:
            self._by_resume[leg.resume_sha256] = session_id
