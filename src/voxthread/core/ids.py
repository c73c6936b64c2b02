"""Session ids: `session_{timestamp}_{random_part}`, and what makes a text one.

    media server   session_1753590741399040_5cc15fe6    microseconds, 8 lower-case hex digits
    frontend       session_1753590741399_qlgq6cfjw      milliseconds, 9 base-36 characters

Four rules say what an id is; hygiene says which ids may become a key, a header or a log field here. An id
is a name and opens nothing. `docs/session-ids.md` tells the whole story.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

MediaSessionId = NewType("MediaSessionId", str)
"""Minted by the media server: canonical, and the same on the log, in traces and in every record."""

FrontendSessionId = NewType("FrontendSessionId", str)
"""Proposed by a frontend: an alias of one session of one principal."""

PREFIX: Final = "session_"
MIN_CHARS: Final = 20
MAX_CHARS: Final = 128


class Dialect(StrEnum):
    """Who mints ids of this shape. OTHER is as valid as the two of our own."""

    MEDIA = "media"
    FRONTEND = "frontend"
    OTHER = "other"


class IdRule(StrEnum):
    """What an id breaks: one of the four rules, or of hygiene. The values are the public error codes."""

    TOO_SHORT = "too_short"
    BAD_PREFIX = "bad_prefix"
    TOO_FEW_PARTS = "too_few_parts"
    TIMESTAMP_NOT_NUMERIC = "timestamp_not_numeric"

    TOO_LONG = "too_long"
    BAD_CHARACTER = "bad_character"
    EMPTY_RANDOM_PART = "empty_random_part"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionId:
    """The parts of an id; `timestamp` is microseconds (MEDIA), milliseconds (FRONTEND) or unknown (OTHER)."""

    dialect: Dialect
    timestamp: int
    random_part: str


def broken_rule(text: str) -> IdRule | None:
    """The first of the four rules that `text` breaks. Nothing is split or copied but the timestamp."""
    if len(text) < MIN_CHARS:
        return IdRule.TOO_SHORT
    if not text.startswith(PREFIX):
        return IdRule.BAD_PREFIX
    end = text.find("_", len(PREFIX))
    if end < 0:
        return IdRule.TOO_FEW_PARTS
    timestamp = text[len(PREFIX) : end]
    if not (timestamp.isascii() and timestamp.isdigit()):
        return IdRule.TIMESTAMP_NOT_NUMERIC
    return None


def is_valid_session_id(text: str) -> bool:
    """Whether `text` keeps the four rules; `hygiene` is a question of its own."""
    return broken_rule(text) is None


def hygiene(text: str) -> IdRule | None:
    """Why an id that keeps the four rules is still unfit to be a key, a header or a log field, if it is."""
    if len(text) > MAX_CHARS:
        return IdRule.TOO_LONG
    if _SAFE.fullmatch(text) is None:
        return IdRule.BAD_CHARACTER
    if _EMPTY_RANDOM_PART.match(text) is not None:
        return IdRule.EMPTY_RANDOM_PART
    return None


def refusal(text: str) -> IdRule | None:
    """Why an edge refuses `text`: too long (asked first: it costs nothing), the four rules, hygiene."""
    if len(text) > MAX_CHARS:
        return IdRule.TOO_LONG
    if len(text) >= MIN_CHARS and _GOOD.fullmatch(text) is not None:
        return None  # in one look, what the rules say one by one: nearly every id is good
    return broken_rule(text) or hygiene(text)


def parse_session_id(text: str) -> SessionId:
    """The parts of an id that no edge would refuse. Raises `ValueError` with the rule as its argument."""
    rule = refusal(text)
    if rule is not None:
        raise ValueError(rule)
    _, timestamp, random_part = text.split("_", 2)
    if _MEDIA.fullmatch(text):
        dialect = Dialect.MEDIA
    elif _FRONTEND.fullmatch(text):
        dialect = Dialect.FRONTEND
    else:
        dialect = Dialect.OTHER
    return SessionId(dialect=dialect, timestamp=int(timestamp), random_part=random_part)


_GOOD = re.compile(r"session_[0-9]+_[A-Za-z0-9-][A-Za-z0-9_-]*")
_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_EMPTY_RANDOM_PART = re.compile(r"session_[^_]*_(_|\Z)")
_MEDIA = re.compile(r"session_[0-9]{16}_[0-9a-f]{8}")
_FRONTEND = re.compile(r"session_[0-9]{13}_[0-9a-z]{9}")
