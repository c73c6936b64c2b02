"""Who is silent, by a clock that stands still while nobody listens."""

import pytest

from voxthread.supervisor.silence import PAUSE_MS, Silence

pytestmark = pytest.mark.unit

PATIENCE_MS = 3_000
BEAT_MS = 500


def listen(silence: Silence, from_ms: int, until_ms: int, *beating: str) -> list[str]:
    """The supervisor's heartbeats come back at once, the others' before them."""
    found: list[str] = []
    for now in range(from_ms, until_ms, BEAT_MS):
        for worker_id in beating:
            silence.hear(worker_id)
        silence.hear_echo(now, now + 5)
        found += silence.silent()
    return found


def test_a_role_that_stops_beating_is_silent_once_after_the_patience() -> None:
    silence = Silence(PATIENCE_MS)
    assert listen(silence, 0, 5_000, "a", "b") == []
    assert listen(silence, 5_000, 4_000 + PATIENCE_MS, "a") == []
    assert listen(silence, 4_000 + PATIENCE_MS, 60_000, "a") == ["b"]


def test_a_role_never_heard_has_not_begun() -> None:
    assert listen(Silence(PATIENCE_MS), 0, 60_000) == []


def test_a_role_that_has_ended_is_forgotten() -> None:
    silence = Silence(PATIENCE_MS)
    silence.hear("a")
    silence.forget("a")
    assert listen(silence, 0, 60_000) == []


def test_after_a_log_that_was_away_all_have_the_whole_patience_again() -> None:
    silence = Silence(PATIENCE_MS)
    listen(silence, 0, 5_000, "a")
    assert listen(silence, 5_000, 7_500) == []
    assert listen(silence, 20_000, 20_000 + PATIENCE_MS) == []
    assert listen(silence, 20_000 + PATIENCE_MS, 30_000) == ["a"]


def test_heartbeats_that_come_back_late_prove_nothing() -> None:
    silence = Silence(PATIENCE_MS)
    listen(silence, 0, 5_000, "a")
    for now in range(5_000, 60_000, BEAT_MS):
        silence.hear_echo(now, now + PAUSE_MS)
        assert silence.silent() == []
