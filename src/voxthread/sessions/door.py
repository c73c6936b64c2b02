"""What every door (WHIP, WebSocket) does with a caller: find the caller's session or make one.

    presented                                         outcome
    a resume token                                    that token's session; the token is used up
    a session token                                   that token's session
    a frontend id this principal has used, no peer    the session it names, and one more token
    the same, while its peer is or may be there       alias_in_use
    any other frontend id, or none                    a new session

A frontend id is looked up under its principal, so a second caller with the same id gets a session of its own.

A session's leg is at one media process. A call (`whip`) brings it here, from wherever it was; a socket (`ws`)
follows the session and leaves it where it is.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle

import anyio

from voxthread.core.failures import BusError, SessionError, VoiceError
from voxthread.core.ids import Dialect
from voxthread.observability import clock
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import SESSIONS_CLOSED, SESSIONS_CREATED
from voxthread.sessions import errors
from voxthread.sessions.host import SessionHost, Via
from voxthread.sessions.hosted import HostedSessions, Peer
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.keyed_locks import KeyedLocks
from voxthread.sessions.registry import SessionRegistry
from voxthread.sessions.tokens import (
    is_anonymous,
    mint_resume_token,
    mint_session_token,
    resume_token_invalid,
    resume_token_sha256,
    session_token_sha256,
)
from voxthread.wire.claims import SessionClaim

log = get_logger(__name__)

_EXPIRY_S = 1.0
_ROLLBACK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """`frontend_session_id` is the session's alias, or its own id while it has none; `resume_token` moves the
    call once, None for a socket."""

    session_id: str
    frontend_session_id: str
    token: str
    resume_token: str | None
    partition: int
    is_new: bool


class SessionDoor:
    """Opens, joins and closes the sessions of this process. All of it is safe to call concurrently.

    `run` must be running for sessions without a peer to end. `agents` are the names that may be asked for,
    the first is the default; `partitions` those of the log that new sessions are spread over. With
    `allow_anonymous` off, a principal of open mode may join by token but open nothing.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        host: SessionHost,
        *,
        invalid_ids: InvalidIds,
        agents: Sequence[str],
        partitions: Sequence[int],
        allow_anonymous: bool,
        now_ms: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._registry = registry
        self._host = host
        self._invalid_ids = invalid_ids
        self._agents = tuple(agents)
        self._partitions = cycle(partitions)
        self._allow_anonymous = allow_anonymous
        self._hosted = HostedSessions(now_ms)
        self._names = KeyedLocks()
        self._moves = KeyedLocks()
        registry.on_leg_moved(self._leg_moved)

    async def run(self) -> None:
        """Close what has expired, for ever."""
        while True:
            await anyio.sleep(_EXPIRY_S)
            try:
                await self.expire()
            except BusError as error:
                log.warning("session.expiry_postponed", code=error.code)

    async def open(
        self,
        *,
        frontend_session_id: str | None,
        principal: str,
        session_token: str | None,
        agent: str | None,
        via: Via,
    ) -> OpenedSession:
        """Join or open a session. After `via="whip"`, `peer_connected` or `peer_lost` must follow.

        Raises `SessionError` (`errors.HTTP_STATUS` has the status of each code), `BusError`, and whatever
        the host raises for a session it cannot take.
        """
        if frontend_session_id is not None:
            await self._check_id(frontend_session_id, session_token, principal, via)
        if session_token is not None:
            return await self._join(session_token, principal, frontend_session_id, via)
        if is_anonymous(principal) and not self._allow_anonymous:
            raise SessionError(errors.TOKEN_MISSING, "a bearer token or a session token is needed")
        if agent is not None and agent not in self._agents:
            raise SessionError(errors.AGENT_UNKNOWN, "there is no agent of that name")
        if frontend_session_id is None:
            return await self._open_by_name(None, principal, agent, via)
        async with self._names.hold((principal, frontend_session_id)):
            return await self._open_by_name(frontend_session_id, principal, agent, via)

    async def resume(
        self, resume_token: str, *, principal: str, frontend_session_id: str | None
    ) -> OpenedSession:
        """Move the call of `resume_token` here, wherever it was. `peer_connected` or `peer_lost` must follow.

        Raises `SessionError` `resume_token_invalid`, also for another principal's token, and as `open` does;
        where the host refuses the session, the token stays good.
        """
        if frontend_session_id is not None:
            self._invalid_ids.check(frontend_session_id, component="whip", dialect=Dialect.FRONTEND)
        resume_sha256 = resume_token_sha256(resume_token)
        session = self._registry.session_of_resume_token(resume_sha256)
        if session is None or not _may_use(session, principal):
            raise resume_token_invalid()
        token, next_resume_token = mint_session_token(), await self._bring_here(session, resume_sha256)
        await self._registry.add_token(session.session_id, session_token_sha256(token))
        await self._name(session, frontend_session_id, "whip")
        return self._opened(session, token, next_resume_token, "whip", is_new=False)

    def authorize(self, session_id: str, *, principal: str, session_token: str | None) -> None:
        """Let the session's principal and the holders of its token act on it, and nobody else.

        Raises `SessionError` `session_unknown`, `token_missing`, `token_invalid` or `session_forbidden`.
        """
        session = self._registry.session(session_id)
        if session is None:
            raise SessionError(errors.SESSION_UNKNOWN, "there is no such session")
        if session_token is not None:
            if self._session_of(session_token, principal).session_id != session_id:
                raise SessionError(errors.SESSION_FORBIDDEN, "the session token is another session's")
        elif is_anonymous(principal):
            raise SessionError(errors.TOKEN_MISSING, "the session token is needed")
        elif principal != session.principal:
            raise SessionError(errors.SESSION_FORBIDDEN, "the session is another principal's")

    def peer_connected(self, session_id: str) -> None:
        self._hosted.connect(session_id)

    def peer_lost(self, session_id: str) -> None:
        """The session's newest peer is gone, or never came; the session waits for the next one."""
        self._hosted.wait(session_id, Peer.ABSENT)

    async def close(self, session_id: str, reason: str) -> None:
        """End a session of this process; nothing if it is over. `reason` is one of few words.

        Raises `BusError`; the session then expires as one without a peer.
        """
        peer = self._hosted.discard(session_id)
        if peer is None:
            return
        try:
            await self._registry.close(session_id, reason)
        except BusError:
            if self._registry.hosts(session_id):
                self._hosted.add(session_id, peer)
            raise
        if self._registry.session(session_id) is None:
            await self._closed(session_id, reason)

    def leave_all(self) -> None:
        """This process stops, its sessions do not: whoever comes for one here is as welcome as any other."""
        self._hosted.clear()

    async def expire(self) -> None:
        """Close the sessions that no peer came back to, and those past any session's age."""
        while (session_id := self._hosted.overdue()) is not None:
            await self.close(session_id, "expired")
        for session_id in await self._registry.expire():
            if self._hosted.discard(session_id) is not None:
                await self._closed(session_id, "expired")

    async def _check_id(
        self, frontend_session_id: str, session_token: str | None, principal: str, via: Via
    ) -> None:
        try:
            self._invalid_ids.check(frontend_session_id, component=via, dialect=Dialect.FRONTEND)
        except SessionError as refused:
            if session_token is not None:
                with suppress(SessionError):  # a wrong token names no session that could be told
                    session = self._session_of(session_token, principal)
                    await self._host.id_refused(session.session_id, refused.code)
            raise

    async def _join(
        self, session_token: str, principal: str, frontend_session_id: str | None, via: Via
    ) -> OpenedSession:
        session = self._session_of(session_token, principal)
        resume_token = await self._bring_here(session) if via == "whip" else None
        await self._name(session, frontend_session_id, via)
        return self._opened(session, session_token, resume_token, via, is_new=False)

    async def _name(self, session: SessionClaim, frontend_session_id: str | None, via: Via) -> None:
        session_id = session.session_id
        if frontend_session_id in (None, session_id):  # its own needs no alias
            return
        if session_id not in self._hosted:  # only where its leg is can its owner be told
            return
        async with self._names.hold((session.principal, frontend_session_id)):
            if self._registry.alias_of(session_id) is None:
                await self._registry.register_alias(session_id, frontend_session_id, component=via)
                await self._host.frontend_bound(session_id, frontend_session_id)

    async def _bring_here(self, session: SessionClaim, resume_sha256: bytes | None = None) -> str:
        """Have the session's leg here, where it may be already; the token that moves it from here."""
        session_id = session.session_id
        resume_token = mint_resume_token()
        async with self._moves.hold(session_id):
            if session_id not in self._hosted:
                self._host.check_room()
            epoch = await self._registry.claim_leg(
                session_id,
                resume_sha256=resume_sha256,
                next_resume_sha256=resume_token_sha256(resume_token),
            )
            if session_id not in self._hosted:
                try:
                    await self._take_over(session, epoch)
                except VoiceError:
                    if resume_sha256 is not None:
                        await self._give_back(session_id, resume_token_sha256(resume_token), resume_sha256)
                    raise
        return resume_token

    async def _give_back(self, session_id: str, claimed_sha256: bytes, resume_sha256: bytes) -> None:
        """Let the token that brought the leg here move it from here, as far as the log takes that."""
        with anyio.move_on_after(_ROLLBACK_S), suppress(VoiceError):
            await self._registry.claim_leg(
                session_id, resume_sha256=claimed_sha256, next_resume_sha256=resume_sha256
            )

    async def _take_over(self, session: SessionClaim, epoch: int) -> None:
        session_id = session.session_id
        # From here on it may be moved away again at any moment, also while its leg is being opened.
        self._hosted.add(session_id, Peer.EXPECTED)
        frontend_session_id = self._registry.frontend_id_for(session_id)
        try:
            await self._host.leg_resumed(session, epoch, frontend_session_id)
        except BaseException:
            self._hosted.discard(session_id)
            raise
        if session_id not in self._hosted:
            self._host.leg_moved(session_id)
            raise SessionError(errors.SESSION_MOVED, "the call has just been moved elsewhere", retryable=True)
        log.info(
            "session.taken_over", session_id=session_id, frontend_session_id=frontend_session_id, epoch=epoch
        )

    async def _open_by_name(
        self, frontend_session_id: str | None, principal: str, agent: str | None, via: Via
    ) -> OpenedSession:
        token = mint_session_token()
        resume_token = mint_resume_token() if via == "whip" else None
        token_sha256 = session_token_sha256(token)
        session, is_new = await self._registry.get_or_create_session(
            frontend_session_id,
            principal=principal,
            agent=agent or self._agents[0],
            partition=next(self._partitions),
            token_sha256=token_sha256,
            resume_sha256=b"" if resume_token is None else resume_token_sha256(resume_token),
            component=via,
        )
        if is_new:
            await self._take_in(session, via)
        else:
            self._refuse_if_in_use(session.session_id, via)
            await self._registry.add_token(session.session_id, token_sha256)
            resume_token = await self._bring_here(session) if via == "whip" else None
        return self._opened(session, token, resume_token, via, is_new=is_new)

    async def _take_in(self, session: SessionClaim, via: Via) -> None:
        try:
            await self._host.session_opened(session, via)
        except BaseException:
            # cancelled or refused, the session must not stay behind with nobody to close it
            with anyio.move_on_after(_ROLLBACK_S, shield=True):
                await self._registry.close(session.session_id, "not_opened")
            raise
        self._hosted.add(session.session_id, Peer.ABSENT)
        SESSIONS_CREATED.labels(via).inc()

    def _opened(
        self, session: SessionClaim, token: str, resume_token: str | None, via: Via, *, is_new: bool
    ) -> OpenedSession:
        if via == "whip":
            self._hosted.wait(session.session_id, Peer.EXPECTED)
        return OpenedSession(
            session_id=session.session_id,
            frontend_session_id=self._registry.frontend_id_for(session.session_id),
            token=token,
            resume_token=resume_token,
            partition=session.partition,
            is_new=is_new,
        )

    def _session_of(self, session_token: str, principal: str) -> SessionClaim:
        session = self._registry.session_of_token(session_token_sha256(session_token))
        if session is None:
            raise SessionError(errors.TOKEN_INVALID, "the session token opens no session")
        if not _may_use(session, principal):
            raise SessionError(errors.SESSION_FORBIDDEN, "the session is another principal's")
        return session

    def _refuse_if_in_use(self, session_id: str, via: Via) -> None:
        peer = self._hosted.peer(session_id)
        # The page opens both doors at once: its socket may come while its own peer is still expected.
        # What became of the peer of another process is not known here.
        if peer is Peer.CONNECTED or (peer in (Peer.EXPECTED, None) and via == "whip"):
            raise SessionError(errors.ALIAS_IN_USE, "the session of this frontend session id has its peer")

    def _leg_moved(self, session_id: str) -> None:
        self._hosted.discard(session_id)
        self._host.leg_moved(session_id)
        log.info(
            "session.moved_away",
            session_id=session_id,
            frontend_session_id=self._registry.frontend_id_for(session_id),
        )

    async def _closed(self, session_id: str, reason: str) -> None:
        SESSIONS_CLOSED.labels(reason).inc()
        await self._host.session_closed(session_id, reason)


def _may_use(session: SessionClaim, principal: str) -> bool:
    """Nobody can prove to be the anonymous principal of before: for those, holding a token is all the proof."""
    return principal == session.principal or is_anonymous(principal)
