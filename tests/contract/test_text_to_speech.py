"""Every voice: frames of one rate without holes, nothing for nothing, quiet when closed."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from spoken import SkipLoudly, bundled_models
from voxthread.core.audio import PcmFrame
from voxthread.core.failures import SynthesisError
from voxthread.engines.tts.piper import open_piper
from voxthread.orchestrator.ports import TextToSpeech
from voxthread.testing.speaking import Failing, ToneTextToSpeech

pytestmark = [pytest.mark.contract, pytest.mark.anyio]

SENTENCE = "Your table for two is booked for seven o'clock tomorrow evening, Peter."

TWO_SENTENCES = f"Sure, I can do that. {SENTENCE}"
"""Two runs of a voice, and several windows in the second."""

Opened = AbstractAsyncContextManager[TextToSpeech]


@asynccontextmanager
async def tone() -> AsyncIterator[TextToSpeech]:
    yield ToneTextToSpeech()


@pytest.fixture(params=["tone", "piper"])
def open_one(request: pytest.FixtureRequest, skip_loudly: SkipLoudly) -> Callable[[], Opened]:
    if request.param == "tone":
        return tone
    models = bundled_models(skip_loudly)
    return lambda: open_piper(models)


@pytest.fixture
def opened(open_one: Callable[[], Opened]) -> Opened:
    return open_one()


async def spoken(tts: TextToSpeech, text: str) -> list[PcmFrame]:
    return [frame async for frame in tts.synthesize(text)]


async def test_a_sentence_is_frames_of_one_rate_that_follow_each_other(opened: Opened) -> None:
    async with opened as tts:
        frames = await spoken(tts, SENTENCE)
    assert len(frames) > 2
    assert len({frame.rate_hz for frame in frames}) == 1
    samples = 0
    for frame in frames:
        assert frame.start_ms == samples * 1000 // frame.rate_hz
        assert frame.samples
        samples += frame.samples
    assert 2_500 < samples * 1000 // frames[0].rate_hz < 6_000


async def test_a_sentence_can_be_heard(opened: Opened) -> None:
    async with opened as tts:
        pcm = b"".join([frame.pcm for frame in await spoken(tts, SENTENCE)])
    assert max(memoryview(pcm).cast("h")) > 3_000


@pytest.mark.parametrize("text", ["", " \n\t"])
async def test_nothing_to_say_is_no_frames(opened: Opened, text: str) -> None:
    async with opened as tts:
        assert await spoken(tts, text) == []


async def test_any_text_is_survived(opened: Opened) -> None:
    async with opened as tts:
        for text in (
            "\x00\x07\x1b\x7f",
            "\ud800",
            "🎉😀",
            "...!?",
            "[[a]]",
            "你好",
            "<speak>",
            "9" * 300,
            "\u202e\ufeff",
        ):
            await spoken(tts, text)
        assert await spoken(tts, "Still here.")


async def test_ten_thousand_characters_begin_at_once_and_stop_when_closed(opened: Opened) -> None:
    async with opened as tts:
        speech = tts.synthesize("word " * 2_000)
        with anyio.fail_after(10):
            await anext(speech)
            await speech.aclose()  # type: ignore[attr-defined]  # every adapter is an async generator
            assert await spoken(tts, "Yes.")


async def test_several_sessions_are_spoken_for_at_once_each_with_its_own_words(opened: Opened) -> None:
    frames: dict[str, list[PcmFrame]] = {}
    async with opened as tts:

        async def say(text: str) -> None:
            frames[text] = await spoken(tts, text)

        async with anyio.create_task_group() as tasks:
            for text in ("Yes.", SENTENCE, f"{SENTENCE} {SENTENCE}"):
                tasks.start_soon(say, text)
    durations = [sum(frame.samples for frame in frames[text]) for text in sorted(frames, key=len)]
    assert durations == sorted(durations)
    assert durations[0] > 0


async def test_a_text_is_the_same_frames_again_after_others_among_others_and_in_another_process(
    open_one: Callable[[], Opened],
) -> None:
    async with open_one() as tts:
        alone = await spoken(tts, TWO_SENTENCES)
        assert await spoken(tts, TWO_SENTENCES) == alone
        for text in ("[[a]] <speak> 999", "Yes?", "你好"):
            await spoken(tts, text)
        assert await spoken(tts, TWO_SENTENCES) == alone

    among_others: list[PcmFrame] = []
    async with open_one() as tts, anyio.create_task_group() as others:
        for text in (SENTENCE * 20, "No. " * 200):
            others.start_soon(spoken, tts, text)
        async for frame in tts.synthesize(TWO_SENTENCES):
            among_others.append(frame)
            await spoken(tts, "Yes.")
        others.cancel_scope.cancel()
    assert among_others == alone


async def test_a_cancelled_listener_stops_the_synthesis(opened: Opened) -> None:
    async with opened as tts:
        with anyio.CancelScope() as listening:
            async for _ in tts.synthesize(SENTENCE * 3):
                listening.cancel()
        assert listening.cancelled_caught
        assert await spoken(tts, "Yes.")


async def test_the_tone_is_the_same_each_time_and_sixty_milliseconds_a_character() -> None:
    tts = ToneTextToSpeech()
    once, again = await spoken(tts, "Hello there"), await spoken(tts, "Hello there")
    assert once == again
    assert once[-1].end_ms == pytest.approx(11 * 60, abs=1)
    assert tts.spoken == ["Hello there"] * 2


async def test_a_scripted_failure_comes_after_its_frames_and_once() -> None:
    tts = ToneTextToSpeech(failures=[None, Failing(after_tokens=1)])
    await spoken(tts, "Hello")
    speech = tts.synthesize("Hello")
    await anext(speech)
    with pytest.raises(SynthesisError) as raised:
        await anext(speech)
    assert raised.value.retryable
    assert await spoken(tts, "Hello")
