import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.engines.tts.speakable import pieces, speakable

pytestmark = pytest.mark.unit


def test_control_characters_and_surrogates_are_spaces_not_words() -> None:
    assert speakable("\x00 well,\tyes\x1b\ud800 no\n") == "well, yes no"


def test_invisible_joiners_do_not_split_a_word() -> None:
    assert speakable("re\u00adserve\u200bd") == "reserved"


def test_long_text_is_cut_after_the_last_whole_sentence() -> None:
    assert list(pieces("One two. Three four. Five six seven", 25)) == ["One two. Three four.", "Five six seven"]


def test_a_sentence_too_long_is_cut_at_a_clause_then_at_a_word() -> None:
    assert list(pieces("one two, three four five", 12)) == ["one two,", "three four", "five"]


def test_a_word_too_long_is_cut_anywhere() -> None:
    assert list(pieces("abcdefghij", 4)) == ["abcd", "efgh", "ij"]


@given(st.text(st.characters(), max_size=2_000), st.integers(1, 300))
def test_any_text_comes_out_whole_in_pieces_of_bounded_length(text: str, limit: int) -> None:
    clean = speakable(text)
    cut = list(pieces(clean, limit))
    assert all(0 < len(piece) <= limit for piece in cut)
    assert "".join(cut).replace(" ", "") == clean.replace(" ", "")
    clean.encode()
