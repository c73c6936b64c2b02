"""Where sessions and media meet: who opens a session gets its leg, who comes back gets it again."""

from contextlib import suppress

from voxthread.core.failures import MediaError
from voxthread.gateway.hub import EventHub
from voxthread.media.legs import Legs
from voxthread.sessions.door import SessionDoor
from voxthread.sessions.host import Via
from voxthread.wire.claims import SessionClaim
from voxthread.wire.facts import FrontendBound, IdRefused, LegResumed, SessionOpened


class Reception:
    """The host of the door's sessions and the watch over their legs. `legs` and `door` are set before use.

    `media_id` names this life of this media process.
    """

    legs: Legs
    door: SessionDoor

    def __init__(self, hub: EventHub, media_id: str) -> None:
        self._hub = hub
        self._media_id = media_id

    def check_room(self) -> None:
        if not self.legs.has_room():
            raise MediaError("media.full", "All lines are taken; try again shortly.", retryable=True)

    async def session_opened(self, session: SessionClaim, via: Via) -> None:
        opened = SessionOpened(
            agent=session.agent,
            principal=session.principal,
            via=via,
            created_at_ms=session.at_ms,
            frontend_session_id=session.frontend_session_id,
        )
        self._hub.expect(session.session_id, session.partition)
        await self.legs.open_leg(session.session_id, session.partition, opened)

    async def leg_resumed(self, session: SessionClaim, epoch: int, frontend_session_id: str) -> None:
        await self.legs.resume_leg(
            session.session_id,
            session.partition,
            epoch,
            LegResumed(media_id=self._media_id),
            frontend_session_id=frontend_session_id,
        )

    def leg_moved(self, session_id: str) -> None:
        self.legs.move(session_id)

    async def frontend_bound(self, session_id: str, frontend_session_id: str) -> None:
        await self.legs.send(session_id, FrontendBound(frontend_session_id=frontend_session_id))

    async def id_refused(self, session_id: str, rule: str) -> None:
        with suppress(MediaError):  # the session has just ended: nobody is left to be told
            await self.legs.send(session_id, IdRefused(rule=rule))

    async def session_closed(self, session_id: str, reason: str) -> None:
        self.legs.end(session_id, reason)

    def peer_connected(self, session_id: str) -> None:
        self.door.peer_connected(session_id)

    def peer_lost(self, session_id: str) -> None:
        self.door.peer_lost(session_id)

    async def leg_ended(self, session_id: str, reason: str) -> None:
        await self.door.close(session_id, reason)
