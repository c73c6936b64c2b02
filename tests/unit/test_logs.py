"""Lines are JSON, carry the session's ids, and can neither leak nor be forged."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from voxthread.observability.logs import REDACTED, configure_logging, get_logger

pytestmark = pytest.mark.unit


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def parsed(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_message_becomes_one_json_line_with_bound_ids_first_fields_first(lines: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(session_id="session_1", frontend_session_id="session_2", turn_id=3)
    get_logger("voxthread.media.peer").info("peer.connected", receives_audio=True)
    (line,) = parsed(lines)
    assert list(line)[:4] == ["at", "level", "logger", "event"]
    assert line["logger"] == "voxthread.media.peer"
    assert line["event"] == "peer.connected"
    assert (line["session_id"], line["frontend_session_id"], line["turn_id"]) == ("session_1", "session_2", 3)
    assert line["receives_audio"] is True


@pytest.mark.parametrize(
    "name",
    ["text", "heard_text", "Authorization", "sdp", "resume_token", "api_key", "X-Resume-Token", "password"],
)
def test_a_private_field_is_redacted_at_any_depth(lines: io.StringIO, name: str) -> None:
    get_logger("voxthread.test").info("x", **{name: "hunter2"}, inner={"more": [{name: "hunter2"}]})
    assert "hunter2" not in lines.getvalue()
    (line,) = parsed(lines)
    assert line[name] == REDACTED
    assert line["inner"] == {"more": [{name: REDACTED}]}


def test_a_count_of_private_things_is_shown(lines: io.StringIO) -> None:
    get_logger("voxthread.test").info("x", text_chars=12, first_token_ms=80)
    (line,) = parsed(lines)
    assert (line["text_chars"], line["first_token_ms"]) == (12, 80)


def test_control_characters_are_escaped_before_json(lines: io.StringIO) -> None:
    get_logger("voxthread.test").warning("session.id_invalid", session_id="a\x1b[2J\n\u202e\x85b", raw=b"\0\1")
    (line,) = parsed(lines)
    assert line["session_id"] == "a\\x1b[2J\\n\\u202e\\x85b"
    assert line["raw"] == "[2 bytes]"


def test_an_exception_keeps_its_lines(lines: io.StringIO) -> None:
    try:
        raise ValueError("bad \x07 value")
    except ValueError:
        get_logger("voxthread.test").exception("x")
    (line,) = parsed(lines)
    assert str(line["exception"]).endswith("\nValueError: bad \\x07 value")


def test_a_library_is_heard_from_warning_on_in_the_same_form(lines: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(session_id="session_1")
    logging.getLogger("uvicorn.access").info("GET /whip/secret-path")
    logging.getLogger("aioice.ice").warning("check %s failed\n", "pair")
    (line,) = parsed(lines)
    assert line["event"] == "check pair failed\\n"
    assert (line["logger"], line["level"], line["session_id"]) == ("aioice.ice", "warning", "session_1")


def test_a_level_below_the_configured_one_is_silent(lines: io.StringIO) -> None:
    get_logger("voxthread.test").debug("x")
    assert lines.getvalue() == ""


def test_a_library_that_chose_its_own_level_is_heard_from_warning_on(lines: io.StringIO) -> None:
    library = logging.getLogger("some.library")
    library.setLevel(logging.DEBUG)
    library.info("what the caller said")
    library.warning("something is wrong")
    assert [line["event"] for line in parsed(lines)] == ["something is wrong"]
