"""Patience at the end of a turn, and what counts as an interruption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.endpointing import Ending, EndpointPolicy, ending, means_interruption

pytestmark = pytest.mark.unit

BACKCHANNELS = frozenset({"mm-hm", "uh-huh", "right", "yeah", "i see", "oh"})


def test_patience_grows_with_doubt() -> None:
    policy = EndpointPolicy(endpoint_ms=500, complete_ms=200, incomplete_ms=1_500)
    assert [policy.patience_ms(verdicts) for verdicts in ([0.9], [], [0.9, 0.1])] == [200, 500, 1_500]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "...",
        "Mm-hm.",
        "Right, right.",
        "Oh yeah!",
        "I see.",
        "NMM",
        "Mm, right",
        "Oh, I see, right.",
        "Fuh-fuh, right.",
    ],
)
def test_backchannels_and_noise_do_not_interrupt(text: str) -> None:
    assert not means_interruption(text, BACKCHANNELS)


@pytest.mark.parametrize(
    "text",
    [
        "Stop.",
        "No wait",
        "right, but what about parking",
        "5",
        "I see nothing",
        "hum a tune",
        "human",
        "no",
        "uh-uh",
        "Nuh-uh.",
        "ah",
    ],
)
def test_content_words_interrupt(text: str) -> None:
    assert means_interruption(text, BACKCHANNELS)


DANGLING = frozenset({"my", "because", "um", "let me see", "in"})
QUESTION_ENDS = frozenset({"in"})
NUMERALS = frozenset({"five", "double"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I would like a room.", Ending.STATEMENT),
        ("Yes.", Ending.STATEMENT),
        ("No, thanks.", Ending.STATEMENT),
        ('He said to me "no."', Ending.STATEMENT),
        ("部屋を予約したいです。", Ending.STATEMENT),
        ("My train is late.", Ending.BRIEF_STATEMENT),
        ("Is there a pool here?", Ending.QUESTION),
        ("is there a pool here.", Ending.QUESTION),
        ("What time is check in?", Ending.QUESTION),
        ("What is two plus five?", Ending.QUESTION),
        ("Is there a pool?", Ending.BRIEF_QUESTION),
        ("Can somebody?", Ending.BRIEF_QUESTION),
        ("هل يوجد مسبح؟", Ending.BRIEF_QUESTION),
        ("I would like a room", Ending.OPEN),
        ("We arrive on Friday...", Ending.OPEN),
        ("We arrive on Friday\u2026", Ending.OPEN),
        ("Well, yes,", Ending.OPEN),
        ("I would like to cancel because.", Ending.DANGLING),
        ("That is my", Ending.DANGLING),
        ("Is that my?", Ending.DANGLING),
        ("We check in.", Ending.DANGLING),
        ("Let me see.", Ending.DANGLING),
        ("Um.", Ending.DANGLING),
        ("", Ending.DANGLING),
        ("...", Ending.DANGLING),
        ("My number is 555-01.", Ending.DICTATED),
        ("It is 4", Ending.DICTATED),
        ("at 10:30", Ending.DICTATED),
        ("That is spelled S-M-I", Ending.DICTATED),
        ("The code is B47K.", Ending.DICTATED),
        ("L, E.", Ending.DICTATED),
        ("Call five five.", Ending.DICTATED),
    ],
)
def test_a_text_ends_as_it_looks(text: str, found: Ending) -> None:
    assert ending(text, dangling=DANGLING, question_ends=QUESTION_ENDS, numerals=NUMERALS) is found


def test_words_lengthen_the_patience_that_the_model_would_shorten() -> None:
    policy = EndpointPolicy(
        complete_ms=200,
        brief_ms=500,
        open_ms=600,
        dictated_ms=900,
        dangling_ms=1_200,
        doubted_ms=800,
        incomplete_ms=1_500,
        dangling_words=DANGLING,
    )
    believed = [
        policy.patience_ms([0.9], text) for text in ("A room.", "A room for us.", "A room", "Room 5", "Room my")
    ]
    doubted = [
        policy.patience_ms([0.1], text) for text in ("A room.", "A room for us.", "A room", "Room 5", "Room my")
    ]
    assert believed == [200, 500, 600, 900, 1_200]
    assert doubted == [800, 800, 1_500, 1_500, 1_500]
    assert policy.patience_ms([0.9]) == 200
    assert policy.patience_ms([], "A room.") == policy.endpoint_ms


def test_a_doubt_that_is_gone_costs_some_patience_and_less_behind_a_question() -> None:
    policy = EndpointPolicy(
        complete_ms=200,
        settled_ms=300,
        statement_ms=400,
        likely_ms=600,
        brief_ms=700,
        complete_probability=0.5,
        sure_probability=0.95,
    )
    sure, sure_by_now, disbelieved = [0.96, 0.99], [0.6, 0.99], [0.4, 0.99]

    def patience_ms(text: str) -> list[int]:
        return [policy.patience_ms(verdicts, text) for verdicts in (sure, sure_by_now, disbelieved)]

    assert patience_ms("Is there a room here?") == [200, 300, 600]
    assert patience_ms("Is there a room?") == [200, 700, 700]
    assert patience_ms("There is a room here.") == [400, 600, 600]
    assert patience_ms("There is a room.") == [700, 700, 700]
    assert policy.patience_ms([0.99, 0.1], "A room?") == policy.incomplete_ms


_silence = st.integers(0, 5_000)


@given(
    st.builds(
        EndpointPolicy,
        complete_ms=st.integers(100, 300),
        settled_ms=_silence,
        statement_ms=_silence,
        likely_ms=_silence,
        brief_ms=_silence,
        open_ms=_silence,
        dictated_ms=_silence,
        dangling_ms=_silence,
        doubted_ms=st.none() | _silence,
        incomplete_ms=st.integers(300, 3_000),
        sure_probability=st.floats(0, 1),
        dangling_words=st.just(DANGLING),
    ),
    st.lists(st.floats(0, 1), min_size=1),
    st.none() | st.text(max_size=40),
)
def test_no_words_and_no_verdict_outlast_the_cap(
    policy: EndpointPolicy, verdicts: list[float], text: str | None
) -> None:
    assert policy.complete_ms <= policy.patience_ms(verdicts, text) <= policy.incomplete_ms


@given(st.text())
def test_any_text_has_an_ending(text: str) -> None:
    assert ending(text, dangling=DANGLING, numerals=NUMERALS) in Ending
