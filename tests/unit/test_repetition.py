import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.engines.llm.repetition import RepetitionGuard

pytestmark = pytest.mark.unit


def spoken(*deltas: str) -> tuple[str, bool]:
    guard = RepetitionGuard()
    text = ""
    for delta in deltas:
        text += guard.feed(delta)
        if guard.looping:
            return text, True
    return text + guard.finish(), False


def test_a_first_sentence_is_never_held_back() -> None:
    guard = RepetitionGuard()
    assert [guard.feed(delta) for delta in ("The", " fee", " is 25")] == ["The", " fee", " is 25"]


def test_a_sentence_said_before_is_not_said_again() -> None:
    text, looping = spoken(
        "The fee is 25 dollars. You can pay here. ", "The fee", " is 25 dollars.", " You can"
    )
    assert (text, looping) == ("The fee is 25 dollars. You can pay here. ".rstrip(), True)


def test_a_sentence_that_only_begins_alike_is_said_whole() -> None:
    text, looping = spoken("The fee is 25 dollars. ", "The fee ", "is ", "not ", "refunded.")
    assert (text, looping) == ("The fee is 25 dollars. The fee is not refunded.", False)


def test_the_last_sentence_repeated_without_white_space_after_it_is_dropped() -> None:
    assert spoken("It is by the sea. It is by the sea.") == ("It is by the sea.", False)


def test_short_sentences_may_be_repeated() -> None:
    assert spoken("Yes. Yes. Of course.") == ("Yes. Yes. Of course.", False)


def test_a_decimal_point_ends_no_sentence() -> None:
    text = "It costs 2.50 dollars now. It costs 2.75 dollars later."
    assert spoken(text) == (text, False)


@given(st.text(alphabet="ab. !\n", max_size=80), st.lists(st.integers(1, 6), max_size=40))
def test_what_is_spoken_is_a_beginning_of_what_was_made_however_it_is_cut(text: str, cuts: list[int]) -> None:
    deltas, rest = [], text
    for cut in cuts:
        deltas.append(rest[:cut])
        rest = rest[cut:]
    result, _ = spoken(*deltas, rest)
    assert text.startswith(result)
    assert result == spoken(text)[0]
