"""The order of work around Whisper: what is decoded, what is reused, left out and taken back."""

import threading
from collections.abc import AsyncIterator, Iterable, Iterator

import anyio
import anyio.to_thread
import numpy as np
import pytest

from spoken import FRAME_SAMPLES, frames_of
from voxthread.core.audio import PcmFrame
from voxthread.core.failures import TranscriptionError
from voxthread.core.transcripts import Flush, Transcript
from voxthread.engines.pcm import FloatSamples
from voxthread.engines.stt.whisper import WhisperSpeechToText

pytestmark = [pytest.mark.contract, pytest.mark.anyio]

INTERIM_MS = 320
INTERIM_SAMPLES = 10 * FRAME_SAMPLES


class Decoder:
    """Writes down how many samples it was given and answers with their number."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.failures: list[TranscriptionError] = []

    def transcribe(self, samples: FloatSamples) -> str:
        self.lengths.append(len(samples))
        if self.failures:
            raise self.failures.pop()
        return str(len(samples))


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


@pytest.fixture
def stt(decoder: Decoder) -> Iterator[WhisperSpeechToText]:
    stt = WhisperSpeechToText(decoder, interim_ms=INTERIM_MS)
    yield stt
    stt.close()


class Busy:
    """Holds the decoding thread, as another session's decoding would."""

    def __init__(self, stt: WhisperSpeechToText) -> None:
        self._free = threading.Event()
        stt._thread.start(self._wait)

    def _wait(self) -> str:
        self._free.wait(10)
        return ""

    def end(self) -> None:
        self._free.set()


def sound(frames: int, *, start_ms: int = 0) -> Iterable[PcmFrame]:
    noise = np.random.default_rng(0).normal(0, 0.1, frames * FRAME_SAMPLES)
    return frames_of(noise, start_ms=start_ms)


async def stream(*parts: Iterable[PcmFrame | Flush]) -> AsyncIterator[PcmFrame | Flush]:
    for part in parts:
        for item in part:
            yield item


async def all_done(stt: WhisperSpeechToText) -> None:
    await anyio.to_thread.run_sync(stt._thread.start(str).result)


async def test_a_flush_where_the_latest_interim_ends_decodes_nothing_again(
    stt: WhisperSpeechToText, decoder: Decoder
) -> None:
    audio = stream(sound(10), [Flush.FLUSH])
    assert [transcript async for transcript in stt.transcribe(audio)][-1] == Transcript(
        text=str(INTERIM_SAMPLES), final=True, end_ms=INTERIM_MS
    )
    assert decoder.lengths == [INTERIM_SAMPLES]


async def test_interims_due_while_the_thread_is_busy_are_left_out(
    stt: WhisperSpeechToText, decoder: Decoder
) -> None:
    busy = Busy(stt)

    async def audio() -> AsyncIterator[PcmFrame | Flush]:
        async for item in stream(sound(100), [Flush.FLUSH]):
            if item is Flush.FLUSH:
                busy.end()
            yield item

    transcripts = [transcript async for transcript in stt.transcribe(audio())]
    assert [transcript.final for transcript in transcripts] == [True]
    assert decoder.lengths == [100 * FRAME_SAMPLES]


async def test_a_stream_cancelled_at_a_flush_takes_its_decoding_back(
    stt: WhisperSpeechToText, decoder: Decoder
) -> None:
    busy = Busy(stt)

    async def transcribe() -> None:
        async for _ in stt.transcribe(stream(sound(3), [Flush.FLUSH])):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transcribe)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    busy.end()
    await all_done(stt)
    assert decoder.lengths == []


async def test_two_sessions_flushing_at_once_are_served_in_order(
    stt: WhisperSpeechToText, decoder: Decoder
) -> None:
    busy = Busy(stt)

    async def transcribe(frames: int) -> None:
        async for _ in stt.transcribe(stream(sound(frames), [Flush.FLUSH])):
            pass

    async with anyio.create_task_group() as tasks:
        for frames in (3, 1, 2):
            tasks.start_soon(transcribe, frames)
            await anyio.wait_all_tasks_blocked()
        busy.end()
    assert decoder.lengths == [3 * FRAME_SAMPLES, FRAME_SAMPLES, 2 * FRAME_SAMPLES]


async def test_a_long_utterance_is_decided_in_pieces_that_fit_the_model(decoder: Decoder) -> None:
    stt = WhisperSpeechToText(decoder, interim_ms=0)
    frames = 100 * 16_000 // FRAME_SAMPLES
    [final] = [each async for each in stt.transcribe(stream(sound(frames), [Flush.FLUSH]))]
    stt.close()
    assert final.text == " ".join(map(str, decoder.lengths))
    assert sum(decoder.lengths) == frames * FRAME_SAMPLES
    assert max(decoder.lengths) <= 29 * 16_000
    assert len(decoder.lengths) == 4


async def test_a_failed_decoding_is_raised_and_the_next_utterance_works(
    stt: WhisperSpeechToText, decoder: Decoder
) -> None:
    decoder.failures.append(TranscriptionError("stt.inference", "out of memory"))
    with pytest.raises(TranscriptionError):
        async for _ in stt.transcribe(stream(sound(3), [Flush.FLUSH])):
            pass
    assert [each.final async for each in stt.transcribe(stream(sound(3), [Flush.FLUSH]))] == [True]
