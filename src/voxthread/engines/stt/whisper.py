"""Whisper as a stream: audio and flushes in, interim and final transcripts out."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.transcripts import Flush, Transcript
from voxthread.engines.pcm import FloatSamples
from voxthread.engines.stt.decoding import DecodingThread
from voxthread.engines.stt.utterance import UtteranceAudio


class Decoder(Protocol):
    """What `WhisperModel` does; blocking."""

    def transcribe(self, samples: FloatSamples) -> str: ...


class Decodings(Protocol):
    """Where decodings run one after another, as `DecodingThread` has them."""

    @property
    def is_idle(self) -> bool: ...

    def start(self, decode: Callable[[], str]) -> Future[str]: ...

    def close(self) -> None: ...


class WhisperSpeechToText:
    """One Whisper for all sessions, in a thread of its own.

    An interim transcript follows every `interim_ms` of new audio (0: never) if the thread is idle then, and
    is left out otherwise; so a final one waits for other final ones and at most one interim.
    """

    def __init__(self, decoder: Decoder, *, interim_ms: int, decodings: Decodings | None = None) -> None:
        self._decoder = decoder
        self._interim_samples = interim_ms * SPEECH_RATE_HZ // 1000
        self._thread: Decodings = decodings or DecodingThread()

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        """Raises `TranscriptionError`. Closed, it leaves nothing queued; a decoding that runs is dropped."""
        utterance = UtteranceAudio()
        latest = _Decoding.of_nothing()
        try:
            async for item in audio:
                if latest.is_unreported_and_done:
                    yield latest.report(utterance, final=False)
                if isinstance(item, PcmFrame):
                    utterance.append(item)
                    while utterance.is_full:
                        latest.text.cancel()
                        latest = _Decoding.of_nothing()
                        await self._settle_piece(utterance)
                    if self._is_interim_due(utterance, latest):
                        latest = self._start(utterance)
                else:
                    if latest.samples != utterance.total_samples:
                        latest.text.cancel()
                        latest = self._start(utterance)
                    await asyncio.wrap_future(latest.text)
                    yield latest.report(utterance, final=True)
        finally:
            latest.text.cancel()

    def close(self) -> None:
        """Stop the thread, after what it is decoding."""
        self._thread.close()

    def _is_interim_due(self, utterance: UtteranceAudio, latest: "_Decoding") -> bool:
        if not self._interim_samples:
            return False
        is_due = utterance.total_samples - latest.samples >= self._interim_samples
        return is_due and self._thread.is_idle

    def _start(self, utterance: UtteranceAudio) -> "_Decoding":
        text = self._thread.start(partial(self._decoder.transcribe, utterance.samples))
        return _Decoding(text=text, samples=utterance.total_samples, end_ms=utterance.end_ms)

    async def _settle_piece(self, utterance: UtteranceAudio) -> None:
        """Decide the text of the first part of a long utterance, once."""
        piece = self._thread.start(partial(self._decoder.transcribe, utterance.take_piece()))
        try:
            utterance.settle(await asyncio.wrap_future(piece))
        finally:
            piece.cancel()


@dataclass(slots=True, kw_only=True)
class _Decoding:
    """The text to be of an utterance's first `samples`."""

    text: Future[str]
    samples: int
    end_ms: int
    is_reported: bool = False

    @classmethod
    def of_nothing(cls) -> "_Decoding":
        text: Future[str] = Future()
        text.set_result("")
        return cls(text=text, samples=0, end_ms=0, is_reported=True)

    @property
    def is_unreported_and_done(self) -> bool:
        return not self.is_reported and self.text.done()

    def report(self, utterance: UtteranceAudio, *, final: bool) -> Transcript:
        self.is_reported = True
        return Transcript(text=utterance.whole_text(self.text.result()), final=final, end_ms=self.end_ms)
