"""Who may do what: bearer tokens say who a caller is, session tokens open one session to whoever holds them.

A session id is in neither role; it is a name.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

import jwt

from voxthread.core.failures import SessionError
from voxthread.sessions import errors

Algorithm = Literal["HS256", "RS256", "ES256"]

LEEWAY_S: Final = 30
MIN_SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: an HS256 key is at least as long as its hash."""

ANONYMOUS_PREFIX: Final = "anonymous_"
_MAX_BEARER_CHARS: Final = 8_192
_MAX_PRINCIPAL_CHARS: Final = 256
_SESSION_TOKEN_PREFIX: Final = "vst_"
_RESUME_TOKEN_PREFIX: Final = "vrt_"
_MAX_MINTED_TOKEN_CHARS: Final = 128


class Scope(StrEnum):
    PUBLISH = "whip:publish"
    PLAY = "whep:play"
    READ_EVENTS = "events:read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Access:
    """What a bearer token grants, and to whom."""

    principal: str
    scopes: frozenset[str]


class TokenVerifier:
    """Verifies JWTs signed with one key and one algorithm, whatever algorithm a token names for itself.

    `key` is an HS256 secret or a PEM public key. Raises `SessionError` `key_unusable` at once if it is not.
    """

    def __init__(self, key: str, *, algorithm: Algorithm, audience: str) -> None:
        _check_key(key, algorithm, signs=False)
        self._key = key
        self._algorithm = algorithm
        self._audience = audience

    def verify(self, bearer_token: str) -> Access:
        """Raises `SessionError` `token_expired` or, for all other reasons alike, `token_invalid`."""
        if len(bearer_token) > _MAX_BEARER_CHARS:
            raise _invalid()
        try:
            claims = jwt.decode(
                bearer_token,
                self._key,
                algorithms=[self._algorithm],
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise SessionError(errors.TOKEN_EXPIRED, "the bearer token has expired") from None
        except (jwt.InvalidTokenError, UnicodeError):
            raise _invalid() from None
        principal = claims["sub"]
        scope = claims.get("scope", "")
        if not _names_principal(principal) or not isinstance(scope, str):
            raise _invalid()
        return Access(principal, frozenset(scope.split()))


def mint_token(
    key: str,
    *,
    algorithm: Algorithm,
    audience: str,
    principal: str,
    scopes: Collection[Scope],
    expires_at_s: int,
) -> str:
    """A bearer token for `principal`, signed with the HS256 secret or the PEM private key.

    `expires_at_s` is Unix time. Raises `SessionError` `key_unusable`, or `principal_unusable` for a name
    that no token may have.
    """
    _check_key(key, algorithm, signs=True)
    if not _names_principal(principal):
        raise SessionError(
            "principal_unusable",
            f"a principal is 1 to {_MAX_PRINCIPAL_CHARS} printable characters, not {ANONYMOUS_PREFIX} first",
        )
    claims = {
        "sub": principal,
        "aud": audience,
        "exp": expires_at_s,
        "scope": " ".join(sorted(scope.value for scope in scopes)),
    }
    return jwt.encode(claims, key, algorithm=algorithm)


class Authenticator:
    """Turns the bearer token of a request into its principal; without a verifier (open mode) into a new one."""

    def __init__(
        self, verifier: TokenVerifier | None, *, random_hex: Callable[[int], str] = secrets.token_hex
    ) -> None:
        self._verifier = verifier
        self._random_hex = random_hex

    @property
    def is_open(self) -> bool:
        return self._verifier is None

    def authenticate(self, bearer_token: str | None, scope: Scope) -> str:
        """The principal, which `admin` or `scope` lets do this. Raises like `access`."""
        return self.access(bearer_token, scope).principal

    def access(self, bearer_token: str | None, scope: Scope) -> Access:
        """What the token grants, `admin` or `scope` among it; in open mode everything, to whoever asks.

        Raises `SessionError` `token_missing`, `token_invalid`, `token_expired` or `scope_missing`.
        """
        if self._verifier is None:
            return Access(f"{ANONYMOUS_PREFIX}{self._random_hex(8)}", frozenset({Scope.ADMIN.value}))
        if not bearer_token:
            raise SessionError(errors.TOKEN_MISSING, "a bearer token is needed")
        access = self._verifier.verify(bearer_token)
        if access.scopes.isdisjoint({scope.value, Scope.ADMIN.value}):
            raise SessionError(errors.SCOPE_MISSING, f"the bearer token lacks the scope {scope.value}")
        return access


def is_anonymous(principal: str) -> bool:
    """Whether this is a principal of open mode, which nobody can prove to be twice."""
    return principal.startswith(ANONYMOUS_PREFIX)


def mint_session_token() -> str:
    """256 random bits, dead with its session."""
    return _SESSION_TOKEN_PREFIX + secrets.token_urlsafe(32)


def session_token_sha256(token: str) -> bytes:
    """What is stored and compared of a session token. Raises `SessionError` `token_invalid`."""
    if not _may_be_minted(token):
        raise SessionError(errors.TOKEN_INVALID, "the session token opens no session")
    return hashlib.sha256(token.encode()).digest()


def mint_resume_token() -> str:
    """256 random bits that move a session's call once, dead with the session."""
    return _RESUME_TOKEN_PREFIX + secrets.token_urlsafe(32)


def resume_token_sha256(token: str) -> bytes:
    """What is stored and compared of a resume token. Raises `SessionError` `resume_token_invalid`."""
    if not _may_be_minted(token):
        raise resume_token_invalid()
    return hashlib.sha256(token.encode()).digest()


def resume_token_invalid() -> SessionError:
    """The same for a token that is malformed, unknown, used, of an ended session or of another principal's."""
    return SessionError(errors.RESUME_TOKEN_INVALID, "the resume token resumes no session")


def check_bind(host: str, key: str | None) -> None:
    """Refuse to serve strangers without a key. Raises `SessionError` `key_missing`."""
    if key or is_loopback(host):
        return
    raise SessionError(
        "key_missing",
        f"refusing to listen on {host or 'every address'} without a key: anybody could call. "
        "Set VOXTHREAD_AUTH__KEY (`voxthread token mint` makes tokens with it) or listen on 127.0.0.1",
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_key(key: str, algorithm: Algorithm, *, signs: bool) -> None:
    try:
        prepared = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    except (jwt.InvalidKeyError, TypeError, ValueError) as error:
        raise SessionError("key_unusable", f"the key does not serve {algorithm}: {error}") from None
    if algorithm == "HS256":
        if len(key.encode()) < MIN_SECRET_BYTES:
            raise SessionError("key_unusable", f"an HS256 key needs {MIN_SECRET_BYTES} bytes or more")
    elif hasattr(prepared, "sign") != signs:
        needed = "private key to mint" if signs else "public key to verify"
        raise SessionError("key_unusable", f"{algorithm} needs the {needed} tokens")


def _may_be_minted(token: str) -> bool:
    return len(token) <= _MAX_MINTED_TOKEN_CHARS and token.isascii()


def _names_principal(principal: object) -> bool:
    return (
        isinstance(principal, str)
        and 0 < len(principal) <= _MAX_PRINCIPAL_CHARS
        and principal.isprintable()
        and not is_anonymous(principal)
    )


def _invalid() -> SessionError:
    return SessionError(errors.TOKEN_INVALID, "the bearer token is not valid here")
