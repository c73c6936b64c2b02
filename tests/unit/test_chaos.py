"""What chaos measures, from values: moments, texts, pauses, and whether a row of calls is good enough."""

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.chaos.figures import spread
from voxthread.chaos.outcome import Blow, Heard, Run, run_json
from voxthread.chaos.pauses import Sound, added_silence_ms
from voxthread.chaos.plan import How, Moment, Phase, Target, moments, strikes
from voxthread.chaos.table import breaches, row_json, row_of, rows_of_table
from voxthread.chaos.tally import Footprint, Tally, held_between, tally_json
from voxthread.chaos.texts import sentences_repeated, words_missing

pytestmark = pytest.mark.unit

FREE = "The Wi-Fi is free in the whole hotel. The password is on your key card."
SPOKEN = (Sound(0, 1_000), Sound(1_300, 2_000), Sound(2_080, 4_000))


def shifted(sounds: tuple[Sound, ...], from_ms: float, by_ms: float) -> tuple[Sound, ...]:
    """The same sounds with a hole at an instant."""
    made: list[Sound] = []
    for sound in sounds:
        if sound.last_ms <= from_ms:
            made.append(sound)
        elif sound.first_ms >= from_ms:
            made.append(Sound(sound.first_ms + by_ms, sound.last_ms + by_ms))
        else:
            made += [Sound(sound.first_ms, from_ms), Sound(from_ms + by_ms, sound.last_ms + by_ms)]
    return tuple(made)


CALM = Heard(
    session_id="session_1753590741399040_5cc15fe6",
    user_text="Is the wireless internet free?",
    agent_text=FREE,
    heard_text=FREE,
    v2v_ms=600,
    sounds=SPOKEN,
    history=(("", "Good day."), ("Is the wireless internet free?", FREE)),
    is_stuck=False,
)


def run(phase: Phase = Phase.SPEAKING, agent: str = "hotel", **changes: object) -> Run:
    heard = replace(CALM, takeovers_ms=(90,), **changes)  # type: ignore[arg-type]
    return Run(
        agent=agent,
        question="Is the wireless internet free?",
        moment=Moment(phase=phase, fraction=0.5),
        blow=Blow(role="orchestrator-1", pid=1, at_us=1, phase=phase),
        undisturbed=CALM,
        heard=heard,
        session_id=heard.session_id,
    )


SPEAKING_ROW = row_of(Target.ORCHESTRATOR, How.KILL, [Phase.SPEAKING], 0)
LISTENING_ROW = row_of(Target.ORCHESTRATOR, How.KILL, [Phase.LISTENING], 0)


def test_same_seed_gives_the_same_moments_and_strikes() -> None:
    phases = (Phase.LISTENING, Phase.SPEAKING)
    first = list(islice(moments(7, phases), 50))
    assert first == list(islice(moments(7, phases), 50))
    assert first != list(islice(moments(8, phases), 50))
    assert [moment.phase for moment in first[:4]] == [*phases, *phases]
    assert all(0 < moment.fraction < 1 for moment in first)
    assert len({moment.fraction for moment in first}) == 50
    assert list(islice(strikes(7, tuple(Target)), 20)) == list(islice(strikes(7, tuple(Target)), 20))


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        (FREE, 0),
        (FREE.upper().replace(".", ""), 0),
        ("The Wi-Fi is free in the whole. The password is on your key card.", 1),
        ("The password is on your key card. The Wi-Fi is free in the whole hotel.", 7),
        ("", 16),
    ],
)
def test_words_missing_counts_words_out_of_place(said: str, missing: int) -> None:
    assert words_missing(FREE, said) == missing


@pytest.mark.parametrize(
    ("expected", "said", "repeated"),
    [
        (FREE, FREE, 0),
        (FREE, FREE + " The password is on your key card.", 1),
        ("Yes. Yes. It is.", "Yes. Yes. It is.", 0),
        ("Yes. It is.", "Yes. Yes. Yes. It is.", 2),
    ],
)
def test_sentence_said_again_is_counted(expected: str, said: str, repeated: int) -> None:
    assert sentences_repeated(expected, said) == repeated


@given(at_ms=st.integers(70, 3_900), hole_ms=st.integers(70, 3_000))
def test_hole_anywhere_in_a_reply_is_measured_to_its_length(at_ms: int, hole_ms: int) -> None:
    assert added_silence_ms(SPOKEN, shifted(SPOKEN, at_ms, hole_ms)) == pytest.approx(hole_ms, abs=1)


@given(jitter_ms=st.lists(st.floats(-15, 15), min_size=3, max_size=3))
def test_undisturbed_reply_has_no_silence_but_jitter(jitter_ms: list[float]) -> None:
    again = tuple(Sound(s.first_ms + j, s.last_ms + j) for s, j in zip(SPOKEN, jitter_ms, strict=True))
    assert added_silence_ms(SPOKEN, again) <= 60


def test_two_holes_the_longer_one_counts() -> None:
    assert added_silence_ms(SPOKEN, shifted(shifted(SPOKEN, 500, 200), 2_600, 350)) == pytest.approx(350)


def test_figures_of_nothing_are_none() -> None:
    assert spread([]) == {"median": None, "p95": None, "max": None}
    assert spread([1, 2, 10]) == {"median": 2.0, "p95": 9.2, "max": 10}


def test_calls_like_the_undisturbed_one_pass() -> None:
    runs = [run(), run(sounds=shifted(SPOKEN, 1_500, 250))]
    assert list(breaches(SPEAKING_ROW, runs)) == []
    told = row_json(SPEAKING_ROW, runs)
    assert told["passed"] is True
    assert told["added_silence_ms"]["max"] == 250
    assert told["takeover_ms"]["median"] == 90
    assert told["history_equal_fraction"] == 1.0


def test_speech_to_text_that_changes_capitals_is_the_same_history() -> None:
    other = "is the wireless internet free"
    assert run(user_text=other, history=(CALM.history[0], (other, FREE))).history_equal is True


@pytest.mark.parametrize(
    ("changes", "breach"),
    [
        ({"sounds": shifted(SPOKEN, 1_500, 301)}, "added_silence_ms p95 301.0, must be <= 300"),
        ({"heard_text": "The Wi-Fi is free."}, "11 words lost"),
        ({"user_text": "Is the internet free?"}, "1 words lost"),
        ({"heard_text": FREE + " " + FREE}, "2 sentences repeated"),
        ({"is_stuck": True}, "1 sessions stuck"),
        ({"history": CALM.history[:1]}, "history equal in 0.0"),
        ({"sounds": ()}, "added_silence_ms not measured: no call was struck where it shows; take more calls"),
    ],
)
def test_call_that_differs_breaches_what_is_demanded(changes: dict[str, object], breach: str) -> None:
    assert breach in list(breaches(SPEAKING_ROW, [run(**changes)]))  # type: ignore[arg-type]


def test_reply_that_comes_late_breaches_the_listening_row() -> None:
    assert list(breaches(LISTENING_ROW, [run(Phase.LISTENING, v2v_ms=1_500)])) == []
    late = run(Phase.LISTENING, v2v_ms=1_700)
    assert list(breaches(LISTENING_ROW, [late])) == ["reply_delay_ms p95 1100.0, must be <= 1000"]


def test_blow_that_came_later_than_aimed_counts_where_it_fell() -> None:
    aimed = run(Phase.THINKING)
    fell = replace(aimed, blow=replace(aimed.blow, phase=Phase.SPEAKING))  # type: ignore[type-var]
    assert fell.phase is Phase.SPEAKING


def test_chat_is_held_to_what_it_meant_to_say() -> None:
    other = "It is free of charge."
    assert run(agent="chat", agent_text=other, heard_text=other).agent_words_lost == 0
    assert run(agent="chat", agent_text=other, heard_text="It is free").agent_words_lost == 2


def test_call_that_failed_breaches_its_row_and_says_why() -> None:
    failed = Run(
        agent="hotel",
        question="",
        moment=Moment(phase=Phase.LISTENING, fraction=0.1),
        problem="call.lost: the line is lost",
    )
    assert "1 calls failed: call.lost: the line is lost" in list(breaches(LISTENING_ROW, [failed]))
    assert run_json(failed)["problem"] == "call.lost: the line is lost"


def test_killed_supervisor_may_move_no_call_and_must_find_its_roles() -> None:
    row = row_of(Target.SERVE, How.KILL, [], 0)
    assert list(breaches(row, [replace(run(), adopted=False)])) == [
        "reply_delay_ms not measured: no call was struck where it shows; take more calls",
        "1 calls changed their owner",
        "a supervisor did not adopt the roles",
    ]


def test_table_of_a_file_has_no_lost_host_and_no_broker() -> None:
    assert {row.target for row in rows_of_table(0)} == {Target.ORCHESTRATOR, Target.SERVE, Target.MEDIA}
    assert all(row.how is How.KILL for row in rows_of_table(0))
    assert {row.target for row in rows_of_table(1)} == set(Target)
    assert any(row.how is How.STOP for row in rows_of_table(3))


def test_storm_without_damage_passes_and_each_damage_is_told() -> None:
    fresh = {"media": Footprint(fds=50, rss_bytes=200_000_000)}
    tally = Tally(calls=3, asked=9, answered=9, held=held_between(fresh, fresh))
    assert tally_json(tally)["passed"] is True
    tally.held = held_between(fresh, {"media": Footprint(fds=90, rss_bytes=200_000_000)})
    tally.stuck, tally.left, tally.answered = ["session_1"], [77], 8
    assert list(tally.breaches()) == [
        "1 sessions stuck: session_1",
        "1 processes leaked",
        "grown: media",
        "1 questions never answered",
    ]
