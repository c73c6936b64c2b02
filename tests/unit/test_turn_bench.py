"""The benchmark of turn-taking: its clock, its counting of words, its set and its figures."""

import asyncio
from collections import Counter
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.pcm import FloatSamples
from voxthread.turn_bench import charged, sounds
from voxthread.turn_bench.charged import ChargedDecodings, ChargedEndOfTurn
from voxthread.turn_bench.figures import figures, wilson
from voxthread.turn_bench.performance import Outcome
from voxthread.turn_bench.remembering import RememberingDecoder, in_full
from voxthread.turn_bench.scenes import PER_KIND, Kind, plan
from voxthread.turn_bench.virtual_time import IN_AUDIO_TIME, START_MS, AudioTimeLoop, now_ms
from voxthread.turn_bench.voices import HELD_OUT
from voxthread.turn_bench.words import drops_repeats, plain_words, word_errors

pytestmark = pytest.mark.unit

AUDIO_TIME = dict(IN_AUDIO_TIME)


# -- audio time ---------------------------------------------------------------------------------------


def test_audio_time_sleepers_wake_in_order_and_nobody_waits() -> None:
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((name, now_ms() - START_MS))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleeper, "an hour", 3_600)
            tasks.start_soon(sleeper, "a second", 1)

    anyio.run(main, backend_options=AUDIO_TIME)
    assert woken == [("a second", 1_000), ("an hour", 3_600_000)]


def test_audio_time_everybody_waiting_for_ever_is_an_error() -> None:
    with closing(AudioTimeLoop()) as loop, pytest.raises(RuntimeError, match="no timer"):
        loop.run_until_complete(loop.create_future())


class Costly:
    """Work of which each piece costs a second of CPU, as `process_time` tells."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def __call__(self) -> float:
        return self.spent_s

    def judge(self, pcm: bytes) -> float:
        self.spent_s += 1
        return 0.5

    def decode(self) -> str:
        self.spent_s += 1
        return "said"


def test_charged_decodings_queue_and_those_cancelled_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Costly()
    monkeypatch.setattr(charged, "process_time", work)
    done_ms: list[int] = []

    async def wait_for(text: Future[str]) -> None:
        assert await asyncio.wrap_future(text) == "said"
        done_ms.append(now_ms() - START_MS)

    async def main() -> None:
        decodings = ChargedDecodings()
        assert decodings.is_idle
        first, unwanted, last = (decodings.start(work.decode) for _ in range(3))
        unwanted.cancel()
        assert not decodings.is_idle
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for, first)
            tasks.start_soon(wait_for, last)
        assert decodings.is_idle

    anyio.run(main, backend_options=AUDIO_TIME)
    assert done_ms == [1_000, 2_000]


def test_charged_end_of_turn_answers_when_its_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Costly()
    monkeypatch.setattr(charged, "process_time", work)

    async def main() -> int:
        await ChargedEndOfTurn(work).probability(PcmFrame(pcm=b"", rate_hz=SPEECH_RATE_HZ))
        return now_ms() - START_MS

    assert anyio.run(main, backend_options=AUDIO_TIME) == 1_000


# -- words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("five five five, zero one two.", "555-012"),
        ("my number is five oh one", "My number is 501."),
        ("nineteen eighty four", "1984"),
        ("the twenty third of June", "the 23rd of June"),
        ("twenty three and not thirty two", "23 and not 32"),
        ("S, M, I, T, H", "S-M-I-T-H"),
        ("I would like to, um, book", "I would like to book."),
    ],
)
def test_the_same_words_written_otherwise_are_no_error(said: str, written: str) -> None:
    assert plain_words(said) == plain_words(written)


def test_word_errors_count_what_was_lost_added_and_changed() -> None:
    errors = word_errors([("a room for two", "a room four two now"), ("yes please", "please")])
    assert (errors.errors, errors.words) == (3, 6)


def test_a_digit_lost_among_its_likes_is_a_dropped_repeat_unless_the_reference_lost_it_too() -> None:
    said = "five five five one"
    assert drops_repeats(said, "551", reference="5551")
    assert not drops_repeats(said, "551", reference="551")
    assert not drops_repeats(said, "5551", reference="5551")


# -- the set ------------------------------------------------------------------------------------------


def test_the_set_is_large_enough_the_same_each_time_and_a_third_of_it_held_out() -> None:
    lines = plan(7)
    assert lines == plan(7)
    assert lines != plan(8)
    kinds = Counter(line.kind for line in lines)
    assert set(kinds) == set(Kind)
    assert min(kinds.values()) >= PER_KIND
    assert sum(line.is_held_out for line in lines) * 3 == len(lines)
    assert len({line.name for line in lines}) == len(lines)


def test_held_out_lines_share_neither_voice_nor_text_with_the_others() -> None:
    lines = [line for line in plan(7) if line.kind in {Kind.PAUSES, Kind.HESITATIONS, Kind.INTERRUPTIONS}]
    held_out = {line.text for line in lines if line.is_held_out}
    assert not held_out & {line.text for line in lines if not line.is_held_out}
    assert all((line.voice in HELD_OUT) == line.is_held_out for line in lines)


def test_a_pause_cut_in_lengthens_speech_by_itself_and_changes_nothing_else() -> None:
    speech = np.full(SPEECH_RATE_HZ, 0.5, np.float32)
    longer = sounds.paused(speech, 8_000, 300)
    assert len(longer) == len(speech) + 4_800
    assert not longer[8_000:12_800].any()
    np.testing.assert_array_equal(longer[:7_900], speech[:7_900])


def test_noise_lies_as_far_below_speech_as_asked() -> None:
    chance = np.random.default_rng(1)
    loud, soft = (sounds.under_speech(sounds.pink(2, chance), snr_db) for snr_db in (10, 20))
    assert 20 * np.log10(loud.std() / soft.std()) == pytest.approx(10, abs=0.1)


# -- figures ------------------------------------------------------------------------------------------


def test_wilson_of_known_counts() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 100) == pytest.approx((0.0, 0.0370), abs=1e-4)
    assert wilson(5, 100) == pytest.approx((0.0215, 0.1118), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_seen(counted: tuple[int, int]) -> None:
    k, n = counted
    low, high = wilson(k, n)
    assert 0 <= low <= k / n + 1e-12
    assert k / n - 1e-12 <= high <= 1


TURN = Outcome(
    name="pauses/000",
    kind=Kind.PAUSES,
    voice="joe",
    is_held_out=False,
    pause_ms=200,
    said="a room for two",
    heard="a room for two",
    reference="a room for two",
    of_same_piece=None,
    is_cut_in=False,
    latency_ms=500,
    is_interrupted=False,
    hold_ms=None,
)


@pytest.mark.parametrize(
    ("reference", "of_same_piece", "dropped"),
    [("5551", "5551", 1), ("5551", None, 1), ("5551", "551", 0), ("551", None, 0)],
)
def test_a_repeat_counts_as_dropped_only_where_the_full_window_keeps_it_in_both_pieces_of_audio(
    reference: str, of_same_piece: str | None, dropped: int
) -> None:
    turn = replace(
        TURN, said="five five five one", heard="551", reference=reference, of_same_piece=of_same_piece
    )
    shown = figures([turn])
    assert shown["repeats_dropped"]["k"] == dropped
    assert shown["repeats_missing"]["k"] == (reference == "5551")


class Measuring:
    """Hears how long the audio is."""

    def transcribe(self, samples: FloatSamples) -> str:
        return f"{len(samples) / SPEECH_RATE_HZ:g} s"


def test_the_full_window_is_asked_about_the_very_audio_that_a_text_was_heard_in() -> None:
    whisper = Measuring()
    decoder = RememberingDecoder(whisper)
    for seconds in (1, 2):
        decoder.transcribe(np.zeros(seconds * SPEECH_RATE_HZ, np.float32))
    assert len(decoder.audio_of("1 s")) == SPEECH_RATE_HZ
    assert in_full(whisper, decoder.audio_of("1 s")) == "29 s"
    decoder.forget()
    with pytest.raises(KeyError):
        decoder.audio_of("1 s")


def test_figures_count_each_kind_by_what_it_can_show() -> None:
    shown = figures(
        [
            TURN,
            replace(TURN, is_cut_in=True, latency_ms=None, pause_ms=500, is_held_out=True),
            replace(TURN, latency_ms=None),
            replace(TURN, kind=Kind.BACKCHANNELS, latency_ms=None, is_interrupted=True, hold_ms=150),
            replace(TURN, kind=Kind.INTERRUPTIONS, latency_ms=None, hold_ms=140),
            replace(TURN, kind=Kind.DOUBLE_TALK, latency_ms=None, hold_ms=140),
        ]
    )
    assert [shown[name]["k"] for name in ("cut_in", "missed_end")] == [1, 1]
    assert [shown[name]["n"] for name in ("cut_in", "missed_end")] == [3, 2]
    assert shown["false_interruption"]["k"] == shown["missed_interruption"]["k"] == 1
    assert shown["cut_in_by_pause_ms"]["301-600"]["k"] == 1
    assert shown["latency_ms"]["median"] == 500
    assert shown["held_out"]["cut_in"] | {"low": 0, "high": 1} == {"k": 1, "n": 1, "low": 0, "high": 1}
    assert [case["wrong"] for case in shown["cases"]] == [
        ["cut_in"],
        ["missed_end"],
        ["false_interruption"],
        ["missed_interruption"],
        ["missed_over_echo"],
    ]
