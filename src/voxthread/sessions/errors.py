"""Every way a session can be refused, and the HTTP status each has: the one table of both doors."""

from typing import Final

from voxthread.core.failures import SessionError
from voxthread.core.ids import IdRule

TOKEN_MISSING: Final = "token_missing"
TOKEN_INVALID: Final = "token_invalid"
TOKEN_EXPIRED: Final = "token_expired"
RESUME_TOKEN_INVALID: Final = "resume_token_invalid"
SCOPE_MISSING: Final = "scope_missing"
SESSION_FORBIDDEN: Final = "session_forbidden"
SESSION_UNKNOWN: Final = "session_unknown"
AGENT_UNKNOWN: Final = "agent_unknown"
ALIAS_IN_USE: Final = "alias_in_use"
SESSION_MOVED: Final = "session_moved"
SESSION_HAS_ALIAS: Final = "session_has_alias"
SESSION_ID_UNAVAILABLE: Final = "session_id_unavailable"
SESSION_ID_AMBIGUOUS: Final = "session_id_ambiguous"
SESSION_EVENTS_EXPIRED: Final = "session_events_expired"

HTTP_STATUS: Final = {
    **{rule.value: 400 for rule in IdRule},
    TOKEN_MISSING: 401,
    TOKEN_INVALID: 401,
    TOKEN_EXPIRED: 401,
    RESUME_TOKEN_INVALID: 401,
    SCOPE_MISSING: 403,
    SESSION_FORBIDDEN: 403,
    SESSION_UNKNOWN: 404,
    AGENT_UNKNOWN: 404,
    ALIAS_IN_USE: 409,
    SESSION_MOVED: 409,
    SESSION_HAS_ALIAS: 409,
    SESSION_ID_AMBIGUOUS: 409,
    SESSION_EVENTS_EXPIRED: 410,
    SESSION_ID_UNAVAILABLE: 503,
}


def http_status(error: SessionError) -> int:
    """The status of a refusal; 500 for what is no refusal but a mistake of ours."""
    return HTTP_STATUS.get(error.code, 500)
