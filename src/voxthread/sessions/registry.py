"""The sessions there are, as every process knows them: claims go to the log, answers come from folding it."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import anyio
from anyio.abc import TaskStatus

from voxthread.core.failures import BusError, SessionError
from voxthread.core.ids import Dialect, FrontendSessionId, IdRule, MediaSessionId, refusal
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.sessions import errors
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.table import Refusal, SessionTable
from voxthread.sessions.tokens import resume_token_invalid
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.claims import (
    AliasClaim,
    AliasRelease,
    Claim,
    LegClaim,
    ReaderCaughtUp,
    SessionClaim,
    SessionRelease,
    TokenClaim,
    decode_claim,
    encode_claim,
)
from voxthread.wire.log import Bus, StoredRecord, Stream

log = get_logger(__name__)

SESSION_MAX_MS: Final = 24 * 3_600_000
"""No session is longer: far less than the log keeps claims, so that no living session is ever forgotten."""

_ORPHANED_MS = 60_000
"""After which a session that is too old is ended for the process that should have done so."""

_MINT_ATTEMPTS = 8
_CLAIMS_IN_FLIGHT = 256  # bounds how far the fold can lag behind what this process appends
_ROLLBACK_S = 1.0
_RETRY_S = 0.2


class SessionRegistry:
    """Resolves ids at once from memory, and changes who is who through the log.

    `run` must be started (`await tasks.start(registry.run)`) before anything is changed, and runs as long
    as the registry is used. Lookups never block; changes return when they are folded here, and raise
    `BusError` when the log takes no records. `media_id` names this life of this media process.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        media_id: str,
        mint: SessionIdMint,
        invalid_ids: InvalidIds,
        now_ms: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._bus = bus
        self._media_id = media_id
        self._mint = mint
        self._invalid_ids = invalid_ids
        self._now_ms = now_ms
        self._table = SessionTable()
        self._folded: dict[int, anyio.Event] = {}
        self._in_flight = anyio.Semaphore(_CLAIMS_IN_FLIGHT, fast_acquire=True)
        self._told_fallback: set[str] = set()
        self._on_leg_moved: Callable[[str], None] | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Fold the claims for ever; started once everything granted so far is known."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._fold)
            await self._settle(ReaderCaughtUp(at_ms=self._now_ms()))
            task_status.started()

    def on_leg_moved(self, told: Callable[[str], None]) -> None:
        """Have `told(session_id)` called at once when a leg that was here is granted to another process."""
        self._on_leg_moved = told

    # -- lookups -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._table)

    def session(self, media_session_id: str) -> SessionClaim | None:
        return self._table.session(media_session_id)

    def session_of_token(self, token_sha256: bytes) -> SessionClaim | None:
        return self._table.session_of_token(token_sha256)

    def session_of_resume_token(self, resume_sha256: bytes) -> SessionClaim | None:
        return self._table.session_of_resume_token(resume_sha256)

    def hosts(self, media_session_id: str) -> bool:
        """Whether the session's leg was granted to this process."""
        leg = self._table.leg(media_session_id)
        return leg is not None and leg.media_id == self._media_id

    def media_id_for(self, principal: str, frontend_session_id: str) -> MediaSessionId | None:
        """The session this principal's frontend id names; None when there is none, never a guess."""
        return self._table.media_id(principal, frontend_session_id)

    def alias_of(self, media_session_id: str) -> FrontendSessionId | None:
        """The session's alias, without the fallback."""
        return self._table.frontend_id(media_session_id)

    def frontend_id_for(self, media_session_id: str) -> FrontendSessionId:
        """The alias of the session, or its own id when it has none."""
        alias = self._table.frontend_id(media_session_id)
        if alias is not None:
            return alias
        if media_session_id not in self._told_fallback and self._table.session(media_session_id) is not None:
            self._told_fallback.add(media_session_id)
            log.info("alias.fallback", session_id=media_session_id, frontend_session_id=media_session_id)
        return FrontendSessionId(media_session_id)

    # -- changes -----------------------------------------------------------------------------------------

    async def get_or_create_session(
        self,
        frontend_session_id: str | None,
        *,
        principal: str,
        agent: str,
        partition: int,
        token_sha256: bytes,
        component: str,
        resume_sha256: bytes = b"",
    ) -> tuple[SessionClaim, bool]:
        """The session the id names, or a new one with that alias; and whether it is new.

        Without an id the session is always new. A session found keeps its own tokens. Raises `SessionError`
        for an id that breaks a rule, and `session_id_unavailable` if no id can be minted.
        """
        if frontend_session_id is not None:
            self._invalid_ids.check(frontend_session_id, component=component, dialect=Dialect.FRONTEND)
        for _ in range(_MINT_ATTEMPTS):
            found = self._named_session(principal, frontend_session_id)
            if found is not None:
                return found, False
            claim = SessionClaim(
                session_id=self._mint.media_session_id(),
                principal=principal,
                agent=agent,
                partition=partition,
                token_sha256=token_sha256,
                frontend_session_id=frontend_session_id,
                media_id=self._media_id,
                resume_sha256=resume_sha256,
                at_ms=self._now_ms(),
            )
            if await self._claim_session(claim):
                return claim, True
        raise SessionError(
            errors.SESSION_ID_UNAVAILABLE, f"{_MINT_ATTEMPTS} session ids in a row were taken", retryable=True
        )

    async def register_alias(self, media_session_id: str, frontend_session_id: str, *, component: str) -> None:
        """Let a frontend id name the session, for the session's principal; nothing if it already does.

        Raises `SessionError`: a broken rule, `session_unknown`, `session_has_alias`, `alias_in_use`.
        """
        self._invalid_ids.check(frontend_session_id, component=component, dialect=Dialect.FRONTEND)
        session = self._living(media_session_id)
        if self._table.frontend_id(media_session_id) == frontend_session_id:
            return
        if self._table.frontend_id(media_session_id) is not None:
            raise SessionError(errors.SESSION_HAS_ALIAS, "the session already has another frontend session id")
        await self._settle(
            AliasClaim(
                session_id=session.session_id,
                principal=session.principal,
                frontend_session_id=frontend_session_id,
                at_ms=self._now_ms(),
            )
        )
        if self._table.media_id(session.principal, frontend_session_id) != media_session_id:
            self._living(media_session_id)
            raise SessionError(errors.ALIAS_IN_USE, "the frontend session id names another session")
        log.info("alias.bound", session_id=media_session_id, frontend_session_id=frontend_session_id)

    async def remove_alias(self, media_session_id: str) -> None:
        """Let the session's alias name nothing, in both directions; nothing if it has none."""
        alias = self._table.frontend_id(media_session_id)
        if alias is None:
            return
        at_ms = self._now_ms()
        await self._settle(AliasRelease(session_id=media_session_id, frontend_session_id=alias, at_ms=at_ms))
        log.info("alias.removed", session_id=media_session_id, frontend_session_id=alias)

    async def claim_leg(
        self, media_session_id: str, *, resume_sha256: bytes | None, next_resume_sha256: bytes
    ) -> int:
        """Host the session's leg at this process from here on; its epoch, should it be a new one.

        `resume_sha256` is of the token that moves it, None if whoever asks may act on the session anyway.
        From now on only the token of `next_resume_sha256` moves it. Raises `SessionError`
        `resume_token_invalid`, or without that token `session_unknown` or `session_moved`.
        """
        claim = LegClaim(
            session_id=media_session_id,
            media_id=self._media_id,
            resume_sha256=resume_sha256,
            next_resume_sha256=next_resume_sha256,
            at_ms=self._now_ms(),
        )
        await self._settle(claim)
        leg = self._table.leg(media_session_id)
        if leg is not None and leg.resume_sha256 == next_resume_sha256:
            return leg.epoch
        if resume_sha256 is not None:
            raise resume_token_invalid()
        self._living(media_session_id)
        raise SessionError(errors.SESSION_MOVED, "the call has just been moved elsewhere", retryable=True)

    async def close(self, media_session_id: str, reason: str) -> bool:
        """End a session whose leg is here, with its alias and tokens; False if it was over or moved already."""
        return await self._release(media_session_id, reason, self._media_id)

    async def _release(self, media_session_id: str, reason: str, media_id: str) -> bool:
        if self._table.session(media_session_id) is None:
            return False
        alias = self._table.frontend_id(media_session_id)
        release = SessionRelease(
            session_id=media_session_id, reason=reason, media_id=media_id, at_ms=self._now_ms()
        )
        await self._settle(release)
        if self._table.session(media_session_id) is not None:
            return False
        if alias is not None:
            log.info("alias.removed", session_id=media_session_id, frontend_session_id=alias)
        log.info(
            "session.closed",
            session_id=media_session_id,
            frontend_session_id=alias or media_session_id,
            reason=reason,
        )
        return True

    async def add_token(self, media_session_id: str, token_sha256: bytes) -> None:
        """Let one more token open the session. Raises `SessionError` `session_unknown`."""
        await self._settle(
            TokenClaim(session_id=media_session_id, token_sha256=token_sha256, at_ms=self._now_ms())
        )
        self._living(media_session_id)

    async def expire(self) -> list[str]:
        """Close every session older than `SESSION_MAX_MS`, those of others a little later; their ids."""
        expired: list[str] = []
        while (oldest := self._table.oldest()) is not None:
            grace_ms = 0 if self.hosts(oldest.session_id) else _ORPHANED_MS
            if oldest.at_ms + SESSION_MAX_MS + grace_ms > self._now_ms():
                break
            await self._release(oldest.session_id, "expired", media_id="")
            expired.append(oldest.session_id)
        return expired

    # -- the log -----------------------------------------------------------------------------------------

    def _named_session(self, principal: str, frontend_session_id: str | None) -> SessionClaim | None:
        if frontend_session_id is None:
            return None
        media_session_id = self._table.media_id(principal, frontend_session_id)
        return None if media_session_id is None else self._table.session(media_session_id)

    def _living(self, media_session_id: str) -> SessionClaim:
        session = self._table.session(media_session_id)
        if session is None:
            raise SessionError(errors.SESSION_UNKNOWN, "there is no such session")
        return session

    async def _claim_session(self, claim: SessionClaim) -> bool:
        try:
            await self._settle(claim)
        except anyio.get_cancelled_exc_class():
            # the claim may be on the log all the same, and nobody would ever close its session
            with anyio.move_on_after(_ROLLBACK_S, shield=True):
                await self._settle(
                    SessionRelease(session_id=claim.session_id, reason="cancelled", at_ms=self._now_ms())
                )
            raise
        if self._table.session(claim.session_id) != claim:
            return False
        alias = claim.frontend_session_id
        log.info(
            "session.created",
            session_id=claim.session_id,
            frontend_session_id=alias or claim.session_id,
            agent=claim.agent,
            partition=claim.partition,
        )
        if alias is not None:
            log.info("alias.bound", session_id=claim.session_id, frontend_session_id=alias)
        return True

    async def _settle(self, claim: Claim) -> None:
        """Append a claim and return when it has been folded, granted or not."""
        try:
            self._in_flight.acquire_nowait()
        except anyio.WouldBlock:
            await self._in_flight.acquire()
        try:
            position = await self._bus.append(Stream.CLAIMS, 0, encode_claim(claim))
            if position >= self._table.next_position:
                folded = self._folded[position] = anyio.Event()
                try:
                    await folded.wait()
                finally:
                    self._folded.pop(position, None)
        finally:
            self._in_flight.release()

    async def _fold(self) -> None:
        position = await self._bus.oldest(Stream.CLAIMS, 0)
        while True:
            try:
                async with aclosing(self._bus.read(Stream.CLAIMS, 0, position)) as records:
                    async for stored in records:
                        position = stored.position + 1
                        self._apply(stored)
                        waiter = self._folded.get(stored.position)
                        if waiter is not None:
                            waiter.set()
            except BusError as error:
                if not error.retryable:
                    raise
                log.warning("log.waiting", stream=Stream.CLAIMS, code=error.code)
                await anyio.sleep(_RETRY_S)

    def _apply(self, stored: StoredRecord) -> None:
        try:
            claim = decode_claim(stored.record.value)
        except MalformedRecordError as error:
            self._table.skip(stored.position)
            BUS_RECORDS_MALFORMED.labels(Stream.CLAIMS.value).inc()
            log.warning("claim.malformed", position=stored.position, detail=str(error))
            return
        was_here = isinstance(claim, LegClaim) and self.hosts(claim.session_id)
        refused = self._table.apply(stored.position, claim)
        match refused, claim:
            case None, SessionRelease(session_id=session_id):
                self._told_fallback.discard(session_id)
            case None, LegClaim(session_id=session_id):
                if was_here and not self.hosts(session_id) and self._on_leg_moved is not None:
                    self._on_leg_moved(session_id)
            case IdRule() as rule, SessionClaim() | AliasClaim():
                self._report_invalid(rule, claim)
            case Refusal(), SessionClaim() | AliasClaim() | LegClaim() | SessionRelease():
                log.info("claim.refused", session_id=claim.session_id, reason=refused.value)
            case _:
                pass

    def _report_invalid(self, rule: IdRule, claim: SessionClaim | AliasClaim) -> None:
        of_session = refusal(claim.session_id) is not None
        self._invalid_ids.report(
            claim.session_id if of_session else claim.frontend_session_id or "",
            rule,
            component="claims",
            dialect=Dialect.MEDIA if of_session else Dialect.FRONTEND,
        )
