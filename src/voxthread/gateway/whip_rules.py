"""The decisions of a WHIP server, apart from HTTP (RFC 9725 sections 4.3 and 4.7). Pure."""

from dataclasses import dataclass
from enum import Enum

from voxthread.gateway.problem import RequestError

SESSION_TOKEN_PREFIX = "vst_"


class PatchDecision(Enum):
    TRICKLE = "trickle"
    RESTART = "restart"


def decide_patch(if_match: str | None, etag: str, *, is_restart: bool) -> PatchDecision:
    """What a fragment may do, by its `If-Match` and whether its credentials differ from the peer's.

    `*` means trickle as well as restart, because clients in use send it for both; only other credentials
    mean a restart. Raises `RequestError` 428 (no If-Match) or 412 (another entity tag).
    """
    if if_match is None:
        raise RequestError(428, "whip.if_match_missing", "Send If-Match with the ETag of the 201.")
    tags = {tag.strip() for tag in if_match.split(",")}
    if tags.isdisjoint({"*", '"*"', etag}):
        raise RequestError(
            412, "whip.if_match_failed", "If-Match is not the session's current ETag.", {"ETag": etag}
        )
    return PatchDecision.RESTART if is_restart else PatchDecision.TRICKLE


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brings to prove who it is."""

    bearer: str | None
    session_token: str | None


def read_credentials(authorization: str | None, session_token: str | None) -> Credentials:
    """A session token may come in a header of its own or as the bearer token."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    bearer = value.strip() if scheme.lower() == "bearer" and value.strip() else None
    if bearer is not None and bearer.startswith(SESSION_TOKEN_PREFIX):
        return Credentials(None, session_token or bearer)
    return Credentials(bearer, session_token)
