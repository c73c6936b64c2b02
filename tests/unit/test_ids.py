"""Session ids against the table of vectors that the page's JavaScript is checked with too."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.ids import (
    MAX_CHARS,
    Dialect,
    IdRule,
    broken_rule,
    hygiene,
    is_valid_session_id,
    parse_session_id,
    refusal,
)
from voxthread.sessions.identity import SessionIdMint

pytestmark = pytest.mark.unit

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "session_ids.json").read_text(encoding="utf-8")
)

almost_ids = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["session_", "session", "Session_", "", "\n"]),
        st.text("0123456789٣²x_", max_size=18),
        st.sampled_from(["_", "", "__"]),
        st.text("0123456789abcdefXYZ_- \r\n\u202eé", max_size=12),
    ),
)


good_ids = st.from_regex(r"\Asession_[0-9]{1,20}_[A-Za-z0-9_-]{0,100}\Z")


def text_of(vector: dict[str, Any]) -> str:
    if "id" in vector:
        return str(vector["id"])
    parts = vector["generate"]
    return str(parts["prefix"] + parts["repeat"] * parts["count"] + parts["suffix"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_an_id_of_the_vectors_breaks_the_rule_it_should(vector: dict[str, Any]) -> None:
    text = text_of(vector)
    assert broken_rule(text) == vector["four_rules"]
    assert is_valid_session_id(text) == (vector["four_rules"] is None)
    assert refusal(text) == vector["refusal"]
    if vector["refusal"] is None:
        assert parse_session_id(text).dialect == vector["dialect"]
    else:
        with pytest.raises(ValueError, match=vector["refusal"]):
            parse_session_id(text)


def test_the_vectors_break_every_rule() -> None:
    assert {vector["refusal"] for vector in VECTORS} == {None, *(rule.value for rule in IdRule)}


@given(st.text() | almost_ids)
def test_any_text_the_four_rules_read_as_they_are_written(text: str) -> None:
    parts = text.split("_")
    expected = None
    if len(text) < 20:
        expected = IdRule.TOO_SHORT
    elif not text.startswith("session_"):
        expected = IdRule.BAD_PREFIX
    elif len(parts) < 3:
        expected = IdRule.TOO_FEW_PARTS
    elif not parts[1] or set(parts[1]) - set("0123456789"):
        expected = IdRule.TIMESTAMP_NOT_NUMERIC
    assert broken_rule(text) is expected


@given(st.text() | almost_ids | good_ids)
def test_any_text_that_is_let_in_is_safe_and_parses_into_itself(text: str) -> None:
    rule = refusal(text)
    assert rule == (hygiene(text) if len(text) > MAX_CHARS else broken_rule(text) or hygiene(text))
    if rule is not None:
        return
    parsed = parse_session_id(text)
    assert len(text) <= MAX_CHARS
    assert text.isascii()
    assert text.isprintable()
    assert text.endswith(parsed.random_part)
    assert f"session_{parsed.timestamp}" == "_".join(text.split("_")[:2]) or text.split("_")[1].startswith("0")


@given(st.integers(10**15, 10**16 - 1), st.integers(0, 2**128 - 1))
def test_any_instant_and_randomness_mints_valid_ids_of_both_dialects(now_us: int, seed: int) -> None:
    mint = SessionIdMint(
        now_us=lambda: now_us,
        now_ms=lambda: now_us // 1000,
        random_bytes=lambda n: seed.to_bytes(16, "big")[-n:],
    )
    media = parse_session_id(mint.media_session_id())
    frontend = parse_session_id(mint.frontend_session_id())
    assert (media.dialect, media.timestamp) == (Dialect.MEDIA, now_us)
    assert (frontend.dialect, frontend.timestamp) == (Dialect.FRONTEND, now_us // 1000)
    assert int(media.random_part, 16) == seed % 2**32
    assert int(frontend.random_part[::-1], 36) == seed % 36**9
