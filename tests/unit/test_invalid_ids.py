"""One warning and one count for each invalid id, until somebody sends thousands."""

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from voxthread.core.failures import SessionError
from voxthread.core.ids import Dialect
from voxthread.sessions.errors import http_status
from voxthread.sessions.invalid_ids import BURST, SUMMARY_MS, InvalidIds, WarningBudget, quote

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    structlog.reset_defaults()


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_753_590_741_399

    def __call__(self) -> int:
        return self.now_ms


def counted(rule: str, component: str) -> float:
    labels = {"component": component, "dialect": "frontend", "rule": rule}
    return REGISTRY.get_sample_value("session_id_invalid_total", labels) or 0.0


def refuse(invalid_ids: InvalidIds, text: str, component: str = "ws") -> SessionError:
    with pytest.raises(SessionError) as raised:
        invalid_ids.check(text, component=component, dialect=Dialect.FRONTEND)
    return raised.value


def test_a_valid_id_is_neither_warned_of_nor_counted() -> None:
    with capture_logs() as lines:
        InvalidIds().check("session_1753590741399_qlgq6cfjw", component="ws", dialect=Dialect.FRONTEND)
    assert lines == []


def test_an_invalid_id_is_refused_with_one_warning_and_one_count() -> None:
    before = counted("bad_prefix", "ws")
    with capture_logs() as lines:
        error = refuse(InvalidIds(), "nobody_1753590741399_qlgq6cfjw")
    assert (error.code, http_status(error), error.retryable) == ("bad_prefix", 400, False)
    assert counted("bad_prefix", "ws") == before + 1
    assert lines == [
        {
            "event": "session.id_invalid",
            "log_level": "warning",
            "component": "ws",
            "dialect": "frontend",
            "rule": "bad_prefix",
            "shown": "nobody_1753590741399_qlg",
            "chars": 30,
        }
    ]


def test_an_id_that_forges_log_lines_is_shown_escaped_and_cut() -> None:
    with capture_logs() as lines:
        refuse(InvalidIds(), "x\r\n\u202e\x1b[31mINFO admin " + "y" * 10_000_000)
    assert lines[0]["shown"] == "x\\r\\n\\u202e\\x1b[31mINFO admin yyyy"


@given(st.text())
def test_any_text_is_quoted_as_short_printable_ascii(text: str) -> None:
    quoted = quote(text)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert len(quoted) <= 24 * len("\\U0001f600")


def test_a_flood_is_warned_of_20_times_then_summed_up_every_10_seconds() -> None:
    clock = Clock()
    invalid_ids = InvalidIds(now_ms=clock)
    before = counted("too_short", "whip")
    with capture_logs() as lines:
        for _ in range(1_000):
            refuse(invalid_ids, "x", "whip")
    assert [line["event"] for line in lines] == ["session.id_invalid"] * BURST
    assert counted("too_short", "whip") == before + 1_000

    clock.now_ms += SUMMARY_MS
    with capture_logs() as lines:
        invalid_ids.flush()
        invalid_ids.flush()
    assert [(line["event"], line["count"]) for line in lines] == [("session.id_invalid_many", 1_000 - BURST)]


def test_a_flood_of_one_rule_does_not_hide_another() -> None:
    invalid_ids = InvalidIds(now_ms=Clock())
    for _ in range(100):
        refuse(invalid_ids, "x")
    with capture_logs() as lines:
        refuse(invalid_ids, "nobody_1753590741399_qlgq6cfjw")
    assert [line["rule"] for line in lines] == ["bad_prefix"]


@given(st.lists(st.integers(0, 30_000), max_size=300))
def test_any_arrivals_are_each_written_or_summed_up_never_both_and_never_lost(gaps_ms: list[int]) -> None:
    now_ms = 0
    budget = WarningBudget(now_ms)
    written = summed_up = 0
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        written += budget.admit(now_ms)
        summed_up += budget.take_held_back(now_ms)
    assert written <= BURST + now_ms * BURST / 60_000 + 1
    summed_up += budget.take_held_back(now_ms + SUMMARY_MS)
    assert written + summed_up == len(gaps_ms)
