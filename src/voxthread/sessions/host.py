"""What a door of sessions asks of the process it is in."""

from typing import Literal, Protocol

from voxthread.wire.claims import SessionClaim

Via = Literal["whip", "ws"]
"""The doors there are."""


class SessionHost(Protocol):
    """What the process that hosts a session does as the session comes, is named and goes."""

    def check_room(self) -> None:
        """Raises `VoiceError` while no more sessions can be hosted."""
        ...

    async def session_opened(self, session: SessionClaim, via: Via) -> None:
        """Before anybody learns of the session. A `VoiceError` raised here undoes it and is the answer."""
        ...

    async def leg_resumed(self, session: SessionClaim, epoch: int, frontend_session_id: str) -> None:
        """A session of another process is hosted here from now on, under this epoch. May raise `VoiceError`."""
        ...

    def leg_moved(self, session_id: str) -> None:
        """The session is hosted elsewhere from now on."""
        ...

    async def frontend_bound(self, session_id: str, frontend_session_id: str) -> None:
        """A session that was opened without an alias has got one."""
        ...

    async def id_refused(self, session_id: str, rule: str) -> None:
        """Somebody who holds the session's token proposed an id for it that breaks `rule`."""
        ...

    async def session_closed(self, session_id: str, reason: str) -> None:
        """Once for each session that ends here; its id, alias and tokens name nothing any more."""
        ...
