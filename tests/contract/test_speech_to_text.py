"""Every speech-to-text: a final text for each flush, covering all before it, and clean when closed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import jiwer
import numpy as np
import pytest

from spoken import SkipLoudly, bundled_models, frame_of, frames_of, need_espeak, say
from voxthread.core.audio import PcmFrame
from voxthread.core.failures import TranscriptionError
from voxthread.core.transcripts import Flush, Transcript
from voxthread.engines.stt.whisper import WhisperSpeechToText
from voxthread.engines.stt.whisper_model import WhisperModel
from voxthread.orchestrator.ports import SpeechToText
from voxthread.testing.listening import ScriptedSpeechToText

pytestmark = [pytest.mark.contract, pytest.mark.anyio]

QUESTION = "Can I bring my dog with me?"
ANSWER = "I would like to book a double room for two nights."

Item = PcmFrame | Flush


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One speech-to-text under test, and how to wait until it has done all it was given."""

    stt: SpeechToText
    settle: Callable[[], Awaitable[None]]


Open = Callable[[int], Subject]


@pytest.fixture(scope="module")
def whisper(skip_loudly: SkipLoudly) -> WhisperModel:
    return WhisperModel(bundled_models(skip_loudly).whisper_dir)


@pytest.fixture(params=["whisper", "scripted"])
def open_subject(request: pytest.FixtureRequest, skip_loudly: SkipLoudly) -> Iterator[Open]:
    need_espeak(skip_loudly)
    opened: list[WhisperSpeechToText] = []

    def open_scripted(interim_ms: int) -> Subject:
        return Subject(
            stt=ScriptedSpeechToText(*[QUESTION] * 4, interim_ms=interim_ms), settle=anyio.lowlevel.checkpoint
        )

    def open_whisper(interim_ms: int) -> Subject:
        stt = WhisperSpeechToText(request.getfixturevalue("whisper"), interim_ms=interim_ms)
        opened.append(stt)

        async def settle() -> None:
            await anyio.to_thread.run_sync(stt._thread.start(lambda: "").result)

        return Subject(stt=stt, settle=settle)

    yield open_scripted if request.param == "scripted" else open_whisper
    for stt in opened:
        stt.close()


async def fed(*items: Iterable[Item] | Callable[[], Awaitable[None]]) -> AsyncIterator[Item]:
    """Frames and flushes in order; a function among them is awaited in its place."""
    for item in items:
        if callable(item):
            await item()
            continue
        for each in item:
            yield each


async def transcripts(stt: SpeechToText, *items: Any) -> list[Transcript]:
    return [transcript async for transcript in stt.transcribe(fed(*items))]


def words(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == " ")


FLUSH = [Flush.FLUSH]


async def test_speech_then_a_flush_gives_its_text_as_final(open_subject: Open) -> None:
    speech = list(frames_of(say(QUESTION), start_ms=7_000))
    [final] = await transcripts(open_subject(0).stt, speech, FLUSH)
    assert (words(final.text), final.final, final.end_ms) == (words(QUESTION), True, speech[-1].end_ms)


async def test_audio_that_ends_without_a_flush_gives_no_final(open_subject: Open) -> None:
    assert await transcripts(open_subject(0).stt, frames_of(say(QUESTION))) == []


async def test_a_second_flush_with_nothing_between_repeats_the_text(open_subject: Open) -> None:
    first, second = await transcripts(open_subject(0).stt, frames_of(say(QUESTION)), FLUSH, FLUSH)
    assert first == second


async def test_audio_after_a_flush_belongs_to_the_same_utterance(open_subject: Open) -> None:
    more = frames_of(np.zeros(16_000), start_ms=60_000)
    first, second = await transcripts(open_subject(0).stt, frames_of(say(QUESTION)), FLUSH, more, FLUSH)
    assert words(second.text) == words(first.text)
    assert second.end_ms > 60_000


@pytest.mark.parametrize("seconds", [0, 0.1, 3])
async def test_silence_gives_an_empty_final(open_subject: Open, seconds: float) -> None:
    silence = frames_of(np.zeros(int(seconds * 16_000)))
    *interim, final = await transcripts(open_subject(500).stt, silence, FLUSH)
    assert {transcript.text for transcript in interim} <= {""}
    assert (final.text, final.final) == ("", True)


async def test_a_growing_utterance_gives_interim_texts_before_its_final(open_subject: Open) -> None:
    subject = open_subject(500)
    speech = list(frames_of(say(ANSWER)))
    half = len(speech) // 2
    *interim, final = await transcripts(subject.stt, speech[:half], subject.settle, speech[half:], FLUSH)
    assert interim
    assert not any(transcript.final for transcript in interim)
    assert final.final
    ends = [transcript.end_ms for transcript in (*interim, final)]
    assert ends == sorted(ends)


async def test_a_frame_of_another_rate_is_a_transcription_error(open_subject: Open) -> None:
    with pytest.raises(TranscriptionError) as refusal:
        await transcripts(open_subject(0).stt, [frame_of(np.zeros(160), rate_hz=8_000)])
    assert refusal.value.failure.stage == "stt"


async def test_two_utterances_at_once_do_not_mix(open_subject: Open) -> None:
    stt = open_subject(0).stt
    finals: list[Transcript] = []

    async def one() -> None:
        finals.extend(await transcripts(stt, frames_of(say(QUESTION)), FLUSH))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert [words(final.text) for final in finals] == [words(QUESTION)] * 2


async def test_a_closed_stream_gives_nothing_more_and_the_next_utterance_works(open_subject: Open) -> None:
    stt = open_subject(500).stt
    async with aclosing(stt.transcribe(fed(frames_of(say(ANSWER)), FLUSH, FLUSH))) as stream:
        assert (await anext(stream)).text
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    [*_, final] = await transcripts(stt, frames_of(say(QUESTION)), FLUSH)
    assert words(final.text) == words(QUESTION)


async def test_a_cancelled_stream_leaves_the_next_utterance_alone(open_subject: Open) -> None:
    stt = open_subject(0).stt
    with anyio.CancelScope() as scope:
        scope.cancel()
        await transcripts(stt, frames_of(say(QUESTION)), FLUSH)
    [final] = await transcripts(stt, frames_of(say(QUESTION)), FLUSH)
    assert words(final.text) == words(QUESTION)


async def test_a_script_that_is_over_says_so() -> None:
    stt = ScriptedSpeechToText(QUESTION)
    await transcripts(stt, FLUSH)
    with pytest.raises(TranscriptionError, match="script"):
        await transcripts(stt, FLUSH)


SENTENCES = (
    "Please remind me to call the dentist tomorrow morning.",
    "Is there parking, and how much does it cost?",
    "I need to cancel my order, the one with the blue jacket.",
    "Actually, wait, I meant Thursday, not Tuesday.",
    "The package never arrived, so I want to speak to a manager.",
    "Let me think about it, and I will call you back this afternoon.",
    "Hello, good morning, I am calling about the apartment that was listed on your website last week.",
)


async def test_whisper_gets_nine_words_of_ten(whisper: WhisperModel, skip_loudly: SkipLoudly) -> None:
    need_espeak(skip_loudly)
    heard = [words(whisper.transcribe(say(sentence))) for sentence in SENTENCES]
    assert jiwer.wer([words(sentence) for sentence in SENTENCES], heard) < 0.1


@pytest.mark.parametrize(
    "repeated", ["Can you hear me? Can you hear me?", "No, no, that is not what I asked for."]
)
async def test_whisper_what_the_caller_says_twice_is_written_twice(
    whisper: WhisperModel, skip_loudly: SkipLoudly, repeated: str
) -> None:
    need_espeak(skip_loudly)
    assert words(whisper.transcribe(say(repeated))) == words(repeated)


@pytest.mark.parametrize("sentence", ["Yes.", "Stop.", "Go forward ten meters.", QUESTION])
async def test_whisper_a_short_utterance_is_written_once(
    whisper: WhisperModel, skip_loudly: SkipLoudly, sentence: str
) -> None:
    need_espeak(skip_loudly)
    heard = words(whisper.transcribe(say(sentence)))
    assert len(heard.split()) == len(sentence.split())


@pytest.mark.parametrize("seconds", [0.5, 3, 8])
@pytest.mark.parametrize("noise", ["hiss", "hum", "clicks"])
async def test_whisper_noise_has_no_text(whisper: WhisperModel, noise: str, seconds: float) -> None:
    rng = np.random.default_rng(2)
    count = int(seconds * 16_000)
    signal = {
        "hiss": rng.normal(0, 0.05, count),
        "hum": 0.05 * np.sin(2 * np.pi * 50 * np.arange(count) / 16_000),
        "clicks": rng.normal(0, 0.2, count) * (np.arange(count) % 5_000 < 60),
    }[noise]
    assert whisper.transcribe(signal.astype(np.float32)) == ""


async def test_whisper_an_utterance_over_30_s_is_transcribed_whole(
    whisper: WhisperModel, skip_loudly: SkipLoudly
) -> None:
    need_espeak(skip_loudly)
    stt = WhisperSpeechToText(whisper, interim_ms=0)
    said = SENTENCES * 2
    speech = np.concatenate([say(sentence) for sentence in said])
    assert len(speech) > 45 * 16_000
    [final] = await transcripts(stt, frames_of(speech), FLUSH)
    stt.close()
    assert jiwer.wer(words(" ".join(said)), words(final.text)) < 0.12


def test_whisper_digits_dictated_in_a_poor_voice_are_as_many_as_were_said(
    whisper: WhisperModel, skip_loudly: SkipLoudly
) -> None:
    """In its short window it makes "It is 555, 0-1, 1, 1, 1, 1, 1, 1" of this, and is not sure of it."""
    need_espeak(skip_loudly)
    heard = whisper.transcribe(say("It is five five five, zero one double one.", "en-gb"))
    assert heard.count("5") == 3
    assert heard.count("1") <= 3
