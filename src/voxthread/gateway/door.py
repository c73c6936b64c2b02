"""What every door of the gateway needs of sessions, in the gateway's words."""

from typing import Literal, Protocol


class OpenedSession(Protocol):
    @property
    def session_id(self) -> str: ...
    @property
    def frontend_session_id(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def resume_token(self) -> str | None:
        """Moves the session's call, once; None where none was answered."""
        ...

    @property
    def partition(self) -> int: ...
    @property
    def is_new(self) -> bool: ...


class SessionDoor(Protocol):
    async def open(
        self,
        *,
        frontend_session_id: str | None,
        principal: str,
        session_token: str | None,
        agent: str | None,
        via: Literal["whip", "ws"],
    ) -> OpenedSession:
        """Join the session of `session_token`, or open a new one.

        Ids are validated first; the error's code is then the rule that is broken. Raises `SessionError`, and
        whatever the host of sessions raises for one it cannot take.
        """
        ...
