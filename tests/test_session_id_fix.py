"""Session ids, shown: how they are made, which are valid, how they map. Runs alone.

python tests/test_session_id_fix.py                    a report to read
python -m pytest tests/test_session_id_fix.py -v       the same as tests
"""

import sys
from collections.abc import Callable

import pytest

from voxthread.core.ids import Dialect, IdRule, broken_rule, is_valid_session_id, parse_session_id, refusal
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.table import Refusal, SessionTable
from voxthread.wire.claims import AliasRelease, SessionClaim, SessionRelease

pytestmark = pytest.mark.unit

MEDIA = "session_1753590741399040_5cc15fe6"
FRONTEND = "session_1753590741399_qlgq6cfjw"

INVALID = [
    ("", IdRule.TOO_SHORT),
    ("session_1_a", IdRule.TOO_SHORT),
    ("sess_1753590741399040_5cc15fe6", IdRule.BAD_PREFIX),
    ("SESSION_1753590741399_qlgq6cfjw", IdRule.BAD_PREFIX),
    ("session_1753590741399040", IdRule.TOO_FEW_PARTS),
    ("session_1753590741399-qlgq6cfjw", IdRule.TOO_FEW_PARTS),
    ("session_17535907x1399_qlgq6cfjw", IdRule.TIMESTAMP_NOT_NUMERIC),
    ("session__1753590741399_qlgq6cfjw", IdRule.TIMESTAMP_NOT_NUMERIC),
    ("session_١٧٥٣٥٩٠٧٤١٣٩٩_qlgq6cfjw", IdRule.TIMESTAMP_NOT_NUMERIC),
]
UNSAFE = [
    (FRONTEND + "\r\nSet-Cookie: a=b", IdRule.BAD_CHARACTER),
    ("session_1753590741399_" + "x" * 107, IdRule.TOO_LONG),
    ("session_1753590741399_", IdRule.EMPTY_RANDOM_PART),
]


def _mint() -> SessionIdMint:
    return SessionIdMint(
        now_us=lambda: 1753590741399040, now_ms=lambda: 1753590741399, random_bytes=lambda n: b"\xff" * n
    )


def _claim(
    principal: str, media_session_id: str, frontend_session_id: str | None, token: bytes
) -> SessionClaim:
    return SessionClaim(
        session_id=media_session_id,
        principal=principal,
        agent="hotel",
        partition=0,
        token_sha256=token,
        frontend_session_id=frontend_session_id,
        at_ms=1753590741399,
    )


def test_the_media_server_mints_microseconds_and_8_hex_digits() -> None:
    """Generation, media server"""
    assert _mint().media_session_id() == "session_1753590741399040_ffffffff"


def test_a_frontend_mints_milliseconds_and_9_base36_characters() -> None:
    """Generation, frontend"""
    assert _mint().frontend_session_id() == "session_1753590741399_33psmzhlg"


def test_thousands_of_minted_ids_are_valid_and_differ() -> None:
    """Generation, 2 x 5,000 by the real clock"""
    mint = SessionIdMint()
    media = {mint.media_session_id() for _ in range(5_000)}
    frontend = {mint.frontend_session_id() for _ in range(5_000)}
    assert len(media) == len(frontend) == 5_000
    assert {parse_session_id(text).dialect for text in media} == {Dialect.MEDIA}
    assert {parse_session_id(text).dialect for text in frontend} == {Dialect.FRONTEND}


@pytest.mark.parametrize(
    ("text", "dialect", "timestamp", "random_part"),
    [
        (MEDIA, Dialect.MEDIA, 1753590741399040, "5cc15fe6"),
        (FRONTEND, Dialect.FRONTEND, 1753590741399, "qlgq6cfjw"),
    ],
)
def test_both_formats_are_valid_and_told_apart(
    text: str, dialect: Dialect, timestamp: int, random_part: str
) -> None:
    """Both formats are valid"""
    assert is_valid_session_id(text)
    parsed = parse_session_id(text)
    assert (parsed.dialect, parsed.timestamp, parsed.random_part) == (dialect, timestamp, random_part)


@pytest.mark.parametrize(("text", "rule"), INVALID)
def test_an_invalid_id_is_refused_by_the_first_rule_it_breaks(text: str, rule: IdRule) -> None:
    """Invalid ids"""
    assert not is_valid_session_id(text)
    assert broken_rule(text) is rule


@pytest.mark.parametrize(("text", "rule"), UNSAFE)
def test_an_unsafe_id_keeps_the_four_rules_and_no_edge_lets_it_in(text: str, rule: IdRule) -> None:
    """Valid by the four rules, refused at every edge"""
    assert is_valid_session_id(text)
    assert refusal(text) is rule


def test_a_mapping_is_found_in_both_directions() -> None:
    """Mapping, both directions"""
    table = SessionTable()
    assert table.apply(0, _claim("alice", MEDIA, FRONTEND, b"1")) is None
    assert table.media_id("alice", FRONTEND) == MEDIA
    assert table.frontend_id(MEDIA) == FRONTEND


def test_a_mapping_is_removed_in_both_directions() -> None:
    """Mapping, removal"""
    table = SessionTable()
    table.apply(0, _claim("alice", MEDIA, FRONTEND, b"1"))
    table.apply(1, AliasRelease(session_id=MEDIA, frontend_session_id=FRONTEND, at_ms=0))
    assert (table.media_id("alice", FRONTEND), table.frontend_id(MEDIA)) == (None, None)
    assert table.session(MEDIA) is not None


def test_a_closed_session_leaves_no_mapping() -> None:
    """Mapping, end of the session"""
    table = SessionTable()
    table.apply(0, _claim("alice", MEDIA, FRONTEND, b"1"))
    table.apply(1, SessionRelease(session_id=MEDIA, reason="ended", at_ms=0))
    assert (table.media_id("alice", FRONTEND), table.session(MEDIA)) == (None, None)


def test_an_unknown_id_is_never_guessed() -> None:
    """Fallback: what is not mapped resolves to nothing, whatever else is there"""
    table = SessionTable()
    table.apply(0, _claim("alice", MEDIA, None, b"1"))
    assert table.media_id("alice", FRONTEND) is None
    assert table.frontend_id(MEDIA) is None


def test_the_same_frontend_id_of_two_principals_names_two_sessions() -> None:
    """Two callers, one frontend id"""
    table = SessionTable()
    other = "session_1753590741399041_00000001"
    assert table.apply(0, _claim("alice", MEDIA, FRONTEND, b"1")) is None
    assert table.apply(1, _claim("bob", other, FRONTEND, b"2")) is None
    assert table.apply(2, _claim("bob", "session_1753590741399042_00000002", FRONTEND, b"3")) is (
        Refusal.ALIAS_TAKEN
    )
    assert (table.media_id("alice", FRONTEND), table.media_id("bob", FRONTEND)) == (MEDIA, other)


def _report() -> tuple[list[str], bool]:
    """What the tests above assert, as lines to read, and whether all of it holds."""
    lines = [
        f"media server  {_mint().media_session_id()}   example {MEDIA}",
        f"frontend      {_mint().frontend_session_id()}    example {FRONTEND}",
        "",
    ]
    for text, rule in [(MEDIA, None), (FRONTEND, None), *INVALID, *UNSAFE]:
        shown = f"{text!a}" if len(text) < 60 else f"{text[:40]!a}... ({len(text)} characters)"
        lines.append(f"{'valid' if rule is None else rule.value:22} {shown}")
    lines.append("")
    all_right = True
    for check, cases in _checks():
        for case in cases:
            try:
                check(*case)
                outcome = "ok"
            except AssertionError:
                outcome, all_right = "FAILED", False
            shown = ascii(case[0])[:60] if case else ""
            lines.append(f"{outcome:6} {check.__doc__} {shown}".rstrip())
    return [*lines, "", "all right" if all_right else "something FAILED"], all_right


def _checks() -> list[tuple[Callable[..., None], list[tuple[object, ...]]]]:
    checks: list[tuple[Callable[..., None], list[tuple[object, ...]]]] = []
    for name, check in list(globals().items()):
        if name.startswith("test_"):
            marks = getattr(check, "pytestmark", [])
            checks.append((check, list(marks[0].args[1]) if marks else [()]))
    return checks


if __name__ == "__main__":
    report, all_right = _report()
    sys.stdout.write("\n".join(report) + "\n")
    raise SystemExit(not all_right)
