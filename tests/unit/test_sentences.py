"""Cutting a stream of text into clauses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.sentences import ClausePolicy, ClauseSplitter

pytestmark = pytest.mark.unit


def clauses(text: str, policy: ClausePolicy | None = None) -> list[str]:
    splitter = ClauseSplitter(policy)
    return [clause for character in text for clause in splitter.feed(character)] + splitter.finish()


def test_first_clause_ends_at_a_comma_and_later_ones_at_sentences() -> None:
    assert clauses("Yes of course, you can. It is free, and it opens at nine. Anything else?") == [
        "Yes of course,",
        "you can.",
        "It is free, and it opens at nine.",
        "Anything else?",
    ]


def test_first_clause_without_punctuation_is_cut_by_words() -> None:
    assert clauses("one two three four five six seven eight nine ten.") == [
        "one two three four five six seven",
        "eight nine ten.",
    ]


def test_one_word_is_not_a_clause_of_its_own() -> None:
    assert clauses("Yes. We do.") == ["Yes. We do."]


def test_abbreviations_and_decimals_do_not_end_a_sentence() -> None:
    text = "Please ask for Mr. Jones at 3.50 a night. Thank you."
    assert clauses(text, ClausePolicy(first_words=0)) == [
        "Please ask for Mr. Jones at 3.50 a night.",
        "Thank you.",
    ]


def test_endless_text_is_bounded() -> None:
    assert all(len(clause) <= 240 for clause in clauses("word " * 500, ClausePolicy(first_words=0)))
    assert all(len(clause) <= 240 for clause in clauses("x" * 2_000))


@given(st.text(alphabet=st.sampled_from("ab .,!?…—\n"), max_size=400), st.integers(1, 20))
def test_any_text_loses_no_word_however_it_is_cut(text: str, size: int) -> None:
    splitter = ClauseSplitter()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = [clause for piece in pieces for clause in splitter.feed(piece)] + splitter.finish()
    assert "".join(" ".join(found).split()) == "".join(text.split())
    assert all(clause == " ".join(clause.split()) != "" for clause in found)
