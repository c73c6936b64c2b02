"""What the WHIP endpoint asks of the sessions and of the media behind it."""

from typing import Protocol

from voxthread.gateway.door import OpenedSession, SessionDoor


class WhipDoor(SessionDoor, Protocol):
    """Who may open which session, and act on it."""

    async def resume(
        self, resume_token: str, *, principal: str, frontend_session_id: str | None
    ) -> OpenedSession:
        """Have the session of the token here, wherever it was. Raises like `open`."""
        ...

    def authorize(self, session_id: str, *, principal: str, session_token: str | None) -> None:
        """Raises `SessionError` if neither the principal nor the token may act on the session."""
        ...

    def peer_lost(self, session_id: str) -> None: ...


class Connection(Protocol):
    """A caller that was answered."""

    @property
    def answer(self) -> str: ...
    @property
    def is_connected(self) -> bool:
        """Whether it has come, and be it gone again."""
        ...

    @property
    def is_closed(self) -> bool: ...
    def is_restart(self, fragment: str) -> bool:
        """Whether the fragment asks for an ICE restart. Raises `VoiceError` if it is malformed."""
        ...

    async def trickle(self, fragment: str) -> None: ...

    async def close(self, reason: str) -> None:
        """End the session; returns when everything is free."""
        ...


class Peers(Protocol):
    def has_room(self) -> bool: ...

    def check_offer(self, offer: str) -> None:
        """Raises `VoiceError` if the offer cannot be answered."""
        ...

    async def connect(self, session_id: str, offer: str) -> Connection: ...

    def end(self, session_id: str, reason: str) -> None: ...
