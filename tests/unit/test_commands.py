import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.failures import SessionError
from voxthread.wire.commands import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_CHARS,
    BindSession,
    EndSession,
    FrontendMessage,
    Interrupt,
    Ping,
    SendText,
    decode_frontend_message,
)

pytestmark = pytest.mark.unit


def decode(text: str) -> FrontendMessage | str:
    """The message, or the code of its refusal; anything else a decoder raises fails the test."""
    try:
        return decode_frontend_message(text)
    except SessionError as error:
        return error.code


def code_of(text: str) -> str:
    with pytest.raises(SessionError) as caught:
        decode_frontend_message(text)
    return caught.value.code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"session.bind"}', BindSession()),
        (
            '{"type":"session.bind","token":"t","frontend_session_id":"f","last_event_id":7,"agent":"hotel"}',
            BindSession(token="t", frontend_session_id="f", last_event_id=7, agent="hotel"),
        ),
        ('{"type":"command.text","text":"hello","later":1}', SendText(text="hello")),
        ('{"type":"command.interrupt"}', Interrupt()),
        ('{"type":"command.end"}', EndSession()),
        ('{"type":"ping"}', Ping()),
        ('{"type":"ping","id":3}', Ping(id=3)),
        ('{"type":"ping","id":"a"}', Ping(id="a")),
    ],
)
def test_decode_each_message_gives_its_value(text: str, message: object) -> None:
    assert decode_frontend_message(text) == message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "message.bad_json"),
        ("hello", "message.bad_json"),
        ('{"type":"ping"', "message.bad_json"),
        ('{"type":"ping"}{}', "message.bad_json"),
        ('{"type":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}", "message.bad_json"),
        ('{"type":"command.text","text":"\\ud800"}', "message.bad_json"),
        ("\ud800", "message.bad_json"),
        ("[]", "message.bad_field"),
        ("null", "message.bad_field"),
        ("{}", "message.bad_field"),
        ('{"type":1}', "message.bad_field"),
        ('{"type":"command.text"}', "message.bad_field"),
        ('{"type":"command.text","text":3}', "message.bad_field"),
        ('{"type":"command.text","text":" \\n"}', "message.bad_field"),
        (json.dumps({"type": "command.text", "text": "a" * (MAX_TEXT_CHARS + 1)}), "message.bad_field"),
        ('{"type":"session.bind","last_event_id":-1}', "message.bad_field"),
        ('{"type":"session.bind","last_event_id":1e400}', "message.bad_field"),
        ('{"type":"session.bind","token":""}', "message.bad_field"),
        ('{"type":"ping","id":' + "9" * 40 + "}", "message.bad_field"),
        ('{"type":"command.shutdown"}', "message.unknown_type"),
        ('{"type":"Ping"}', "message.unknown_type"),
        (json.dumps({"type": "ping", "pad": "x" * MAX_MESSAGE_BYTES}), "message.too_large"),
        ('{"type":"ping","pad":"' + "\u20ac" * 30_000 + '"}', "message.too_large"),
    ],
)
def test_decode_garbage_names_what_is_wrong(text: str, code: str) -> None:
    assert code_of(text) == code


@given(st.text())
def test_decode_any_text_gives_a_message_or_a_session_error(text: str) -> None:
    result = decode(text)
    assert not isinstance(result, str) or result.startswith("message.")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(
    ["token", "session_id", "frontend_session_id", "last_event_id", "agent", "text", "id"]
)
_types = st.sampled_from(["session.bind", "command.text", "command.interrupt", "command.end", "ping"]) | _json


@given(_types, st.dictionaries(_fields, _json))
def test_decode_known_fields_of_any_kind_gives_a_message_or_a_session_error(
    kind: object, fields: dict[str, object]
) -> None:
    result = decode(json.dumps({**fields, "type": kind}))
    if isinstance(result, str):
        assert result.startswith("message.")
    else:
        assert decode(msgspec.json.encode(result).decode()) == result
