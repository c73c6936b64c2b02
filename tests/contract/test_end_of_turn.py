"""Every end-of-turn model: a probability for any utterance, however short, long or silent."""

import anyio
import numpy as np
import pytest

from spoken import SkipLoudly, bundled_models, frame_of, need_espeak, say
from voxthread.core.failures import TurnModelError
from voxthread.engines.turn.smart_turn import SmartTurn
from voxthread.orchestrator.ports import EndOfTurn
from voxthread.testing.listening import ScriptedEndOfTurn

pytestmark = [pytest.mark.contract, pytest.mark.anyio]


@pytest.fixture(scope="module")
def smart_turn(skip_loudly: SkipLoudly) -> SmartTurn:
    return SmartTurn(bundled_models(skip_loudly).smart_turn)


@pytest.fixture(params=["smart-turn", "scripted"])
def end_of_turn(request: pytest.FixtureRequest) -> EndOfTurn:
    if request.param == "scripted":
        return ScriptedEndOfTurn(0.2, 0.9)
    model: SmartTurn = request.getfixturevalue("smart_turn")
    return model


@pytest.mark.parametrize("seconds", [0, 0.01, 1, 8, 20])
async def test_an_utterance_of_any_length_gets_a_probability(end_of_turn: EndOfTurn, seconds: float) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, int(seconds * 16_000))
    assert 0 <= await end_of_turn.probability(frame_of(noise)) <= 1


async def test_silence_gets_a_probability(end_of_turn: EndOfTurn) -> None:
    assert 0 <= await end_of_turn.probability(frame_of(np.zeros(16_000))) <= 1


async def test_another_rate_is_refused(end_of_turn: EndOfTurn) -> None:
    with pytest.raises(TurnModelError) as refusal:
        await end_of_turn.probability(frame_of(np.zeros(8_000), rate_hz=8_000))
    assert refusal.value.failure.stage == "turn"


async def test_two_sessions_asking_at_once_are_both_answered(end_of_turn: EndOfTurn) -> None:
    answers: list[float] = []

    async def ask() -> None:
        answers.append(await end_of_turn.probability(frame_of(np.zeros(16_000))))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
    assert len(answers) == 2


async def test_a_script_answers_in_turn_and_then_stays_at_its_last() -> None:
    model = ScriptedEndOfTurn(0.1, 0.8)
    assert [await model.probability(frame_of(np.zeros(160))) for _ in range(3)] == [0.1, 0.8, 0.8]


@pytest.mark.parametrize("voice", ["en-gb", "en-us", "en-us+f3"])
async def test_smart_turn_tells_a_question_from_a_sentence_left_hanging(
    smart_turn: SmartTurn, skip_loudly: SkipLoudly, voice: str
) -> None:
    need_espeak(skip_loudly)
    question = say("Is there parking, and how much does it cost?", voice)
    hanging = say("I would like to book a room, but, um", voice)
    assert await smart_turn.probability(frame_of(question)) > 0.7
    assert await smart_turn.probability(frame_of(hanging)) < 0.3


async def test_smart_turn_only_the_last_8_s_count(smart_turn: SmartTurn, skip_loudly: SkipLoudly) -> None:
    need_espeak(skip_loudly)
    utterance = np.tile(say("What time is check in?"), 6)
    whole = await smart_turn.probability(frame_of(utterance))
    assert whole == await smart_turn.probability(frame_of(utterance[-8 * 16_000 :]))
