"""What a frontend may say on the events WebSocket: one JSON object per text frame, told apart by `type`.

    {"type": "session.bind", "token": "...", "last_event_id": 12}
    {"type": "command.text", "text": "What time is breakfast?"}

Unknown fields are ignored, so that newer pages can talk to older servers; an unknown `type` is refused.
"""

from typing import Annotated

import msgspec

from voxthread.core.failures import SessionError

MAX_MESSAGE_BYTES = 64 * 1024
MAX_TEXT_CHARS = 4_000
"""About four minutes of speech; longer input is pasted, not said."""

_MAX_SAFE_INTEGER = 2**53 - 1
"""Number.MAX_SAFE_INTEGER of ECMAScript: what a browser can count to."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS, pattern=r"\S")]
_Token = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_EventId = Annotated[int, msgspec.Meta(ge=0, le=_MAX_SAFE_INTEGER)]
_PingId = (
    Annotated[str, msgspec.Meta(max_length=128)]
    | Annotated[int, msgspec.Meta(ge=-_MAX_SAFE_INTEGER, le=_MAX_SAFE_INTEGER)]
    | None
)


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class BindSession(_Message, tag="session.bind", frozen=True):
    """Join the session `token` opens, or open a new one without a token.

    The ids are not bounded here: whoever validates ids names the rule they break. Only events with a `seq`
    above `last_event_id` are sent.
    """

    token: _Token | None = None
    session_id: str | None = None
    frontend_session_id: str | None = None
    last_event_id: _EventId = 0
    agent: _Name | None = None


class SendText(_Message, tag="command.text", frozen=True):
    """The caller typed instead of speaking."""

    text: _Text


class Interrupt(_Message, tag="command.interrupt", frozen=True):
    """Stop the agent's voice."""


class EndSession(_Message, tag="command.end", frozen=True):
    """Hang up."""


class Ping(_Message, tag="ping", frozen=True):
    """Answered by a `pong` with the same `id`."""

    id: _PingId = None


FrontendMessage = BindSession | SendText | Interrupt | EndSession | Ping


class _Tagged(msgspec.Struct):
    type: str


_tag_decoder = msgspec.json.Decoder(_Tagged)
_decoder: msgspec.json.Decoder[FrontendMessage] = msgspec.json.Decoder(FrontendMessage)
_TYPES = frozenset({"session.bind", "command.text", "command.interrupt", "command.end", "ping"})


def decode_frontend_message(text: str) -> FrontendMessage:
    """Raises `SessionError` with `message.too_large`, `.bad_json`, `.unknown_type` or `.bad_field`."""
    if len(text) > MAX_MESSAGE_BYTES or len(text.encode(errors="replace")) > MAX_MESSAGE_BYTES:
        raise SessionError("message.too_large", f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    try:
        tag = _tag_decoder.decode(text).type
        if tag not in _TYPES:
            raise SessionError("message.unknown_type", f"`type` is one of {', '.join(sorted(_TYPES))}")
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise SessionError("message.bad_field", str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise SessionError("message.bad_json", "a message is one JSON object") from None
