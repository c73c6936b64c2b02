"""What a request shows, and who that makes it: for each door what it asks."""

from starlette.requests import HTTPConnection

from voxthread.core.failures import SessionError
from voxthread.gateway.whip_rules import Credentials
from voxthread.sessions import errors
from voxthread.sessions.index import Viewer
from voxthread.sessions.registry import SessionRegistry
from voxthread.sessions.tokens import Authenticator, Scope, session_token_sha256


class Access:
    def __init__(self, authenticator: Authenticator, registry: SessionRegistry) -> None:
        self._authenticator = authenticator
        self._registry = registry

    def publisher(self, bearer: str | None) -> str:
        """The principal that may open calls. Raises `SessionError`."""
        return self._authenticator.authenticate(bearer, Scope.PUBLISH)

    def follower(self, connection: HTTPConnection) -> str:
        """Who a socket's bearer token names; a socket without a valid one may still join by a session token."""
        scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
        try:
            token = bearer.strip() if scheme.lower() == "bearer" else None
            return self._authenticator.authenticate(token, Scope.READ_EVENTS)
        except SessionError:
            return Authenticator(None).authenticate(None, Scope.READ_EVENTS)

    def viewer(self, credentials: Credentials) -> Viewer:
        """Which sessions may be read: the token's own, the principal's own, or with `admin` all.

        Raises `SessionError`.
        """
        if credentials.session_token is not None:
            session = self._registry.session_of_token(session_token_sha256(credentials.session_token))
            if session is None:
                raise SessionError(errors.TOKEN_INVALID, "the session token opens no session")
            return Viewer(session_id=session.session_id)
        access = self._authenticator.access(credentials.bearer, Scope.READ_EVENTS)
        return Viewer() if Scope.ADMIN in access.scopes else Viewer(principal=access.principal)
