"""Whether a text says one of its clauses again at the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.engines.stt.replay import ends_in_replay

pytestmark = pytest.mark.unit

CLAUSE = st.lists(
    st.sampled_from(["red", "green", "blue", "grey", "pink", "gold"]), min_size=2, max_size=6, unique=True
)


@pytest.mark.parametrize(
    "text",
    [
        "Go forward ten meters. Go forward ten meters.",
        "Go forward ten meters. Go forward ten",
        "Can I bring my dog with me? can I bring my dog",
        "No. No. No. No. No",
        "5, 5, 5, 5",
        "He walked to the river. The water was low. The water was",
        "Hello, how are you? How are you?",
        "Turn left. Turn left. And then stop.",
        "The card number is 4242-4242-4242.",
        "It is 555-0101",
        "The card number is 4242424242424242",
    ],
)
def test_a_clause_said_again_is_suspected(text: str) -> None:
    assert ends_in_replay(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "Yes. Yes.",
        "No, no, that is not what I asked for.",
        "I had had enough of it.",
        "Is it far? Is there a bus?",
        "My number is 415 5 5 5 5 5 0 1 2 3",
        "What I want is what I want",
        "The code is 1122333.",
        "It is 4242 Main Street, room 7",
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not ends_in_replay(text)


@given(before=st.lists(CLAUSE, max_size=3), clause=CLAUSE, data=st.data())
def test_any_start_of_the_last_clause_of_two_words_or_more_is_found(
    before: list[list[str]], clause: list[str], data: st.DataObject
) -> None:
    again = clause[: data.draw(st.integers(min_value=2, max_value=len(clause)))]
    sentences = [" ".join(words) + "." for words in (*before, clause)]
    assert ends_in_replay(" ".join((*sentences, *again)))


@given(words=st.lists(st.text("abcdefghij", min_size=1), unique=True), ends=st.lists(st.sampled_from(" .,?")))
def test_words_that_are_all_different_are_never_a_replay(words: list[str], ends: list[str]) -> None:
    marks = [*ends, *[" "] * len(words)]
    assert not ends_in_replay(" ".join(word + mark for word, mark in zip(words, marks, strict=False)))


@given(text=st.text(max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    assert ends_in_replay(text) in (True, False)
