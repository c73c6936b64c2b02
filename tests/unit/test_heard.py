"""What was heard: played milliseconds to words, and the history they leave."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.history import History, Message
from voxthread.core.playout import HeardLedger

pytestmark = pytest.mark.unit


def ledger(*clauses: tuple[str, int], is_finished: bool = True) -> HeardLedger:
    made = HeardLedger()
    for number, (text, duration_ms) in enumerate(clauses):
        made.plan(text)
        made.add_audio(number, duration_ms)
    if is_finished:
        made.finish()
    return made


def test_nothing_played_nothing_heard() -> None:
    assert ledger(("Hello to you.", 1_000)).heard_text(0) == ""


def test_half_a_clause_gives_its_first_words() -> None:
    assert ledger(("one two three four", 1_000)).heard_text(500) == "one two"


def test_whole_clauses_before_the_cut_are_whole() -> None:
    assert ledger(("One.", 400), ("Two three.", 800)).heard_text(800) == "One. Two"


def test_unfinished_clause_is_judged_by_its_likely_length() -> None:
    text = "a rather long clause whose synthesis has only just begun"
    assert ledger((text, 200), is_finished=False).heard_text(200) == "a"


def test_audio_of_an_unplanned_clause_is_refused() -> None:
    with pytest.raises(ValueError, match="audio of clause 1"):
        ledger(("One.", 100)).add_audio(1, 20)


@given(st.lists(st.tuples(st.text("ab ", min_size=1, max_size=30), st.integers(20, 3_000)), max_size=6))
def test_any_reply_more_played_is_never_less_heard(clauses: list[tuple[str, int]]) -> None:
    made = ledger(*clauses)
    heard = [made.heard_text(played_ms) for played_ms in range(0, made.total_ms + 40, 20)]
    assert all(len(earlier) <= len(later) for earlier, later in pairwise(heard))
    assert heard[-1].split() == made.planned_text.split()


def test_history_unanswered_question_is_taken_back() -> None:
    history = History()
    history.user_said("what time is")
    assert history.take_back_unanswered() == "what time is"
    assert history.messages == ()


def test_history_answered_question_stays() -> None:
    history = History()
    history.user_said("hello")
    history.agent_was_heard("Hello")
    assert history.take_back_unanswered() == ""
    assert history.messages == (Message(role="user", text="hello"), Message(role="assistant", text="Hello"))
