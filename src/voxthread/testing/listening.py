"""Fakes that listen: they pass the contract suites of their ports, load nothing and take no time."""

import math
from collections.abc import AsyncIterable, AsyncIterator

import numpy as np

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.failures import TranscriptionError, TurnModelError
from voxthread.core.transcripts import Flush, Transcript

_AUDIBLE_PEAK = 100
"""Of 32,768: -50 dBFS."""

_SILENT_DBFS = -55.0
_LOUD_DBFS = -25.0


class ScriptedSpeechToText:
    """Hears in the n-th utterance the n-th of `texts`, whatever was said; in silence nothing.

    Every `interim_ms` of audio (0: never) an interim transcript shows one word more. An utterance beyond the
    script raises `TranscriptionError`, so that a test sees it.
    """

    def __init__(self, *texts: str, interim_ms: int = 0) -> None:
        self._texts = iter(texts)
        self._interim_ms = interim_ms

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        words = self._next_text().split()
        heard_ms = end_ms = shown = 0
        is_audible = False
        async for item in audio:
            if not isinstance(item, PcmFrame):
                yield Transcript(text=" ".join(words) if is_audible else "", final=True, end_ms=end_ms)
                continue
            if item.rate_hz != SPEECH_RATE_HZ:
                raise TranscriptionError(
                    "stt.wrong_rate", f"speech-to-text hears 16 kHz, not {item.rate_hz} Hz"
                )
            is_audible = is_audible or _peak(item) > _AUDIBLE_PEAK
            heard_ms, end_ms = heard_ms + item.duration_ms, item.end_ms
            if self._interim_ms and heard_ms // self._interim_ms > shown:
                shown += 1
                yield Transcript(text=" ".join(words[:shown]) if is_audible else "", final=False, end_ms=end_ms)

    def _next_text(self) -> str:
        try:
            return next(self._texts)
        except StopIteration:
            raise TranscriptionError("stt.script_over", "the script has no more utterances") from None


class ScriptedEndOfTurn:
    """Answers with each of `probabilities` in turn, and with the last one from then on."""

    def __init__(self, *probabilities: float) -> None:
        self._probabilities = probabilities
        self._asked = 0

    async def probability(self, audio: PcmFrame) -> float:
        if audio.rate_hz != SPEECH_RATE_HZ:
            raise TurnModelError(
                "turn.wrong_rate", f"the end-of-turn model hears 16 kHz, not {audio.rate_hz} Hz"
            )
        answer = self._probabilities[min(self._asked, len(self._probabilities) - 1)]
        self._asked += 1
        return answer


class EnergyVoiceActivity:
    """Takes whatever is loud for speech: -55 dBFS is 0, -25 dBFS is 1."""

    @property
    def frame_samples(self) -> int:
        return 512

    def probability(self, frame: PcmFrame) -> float:
        """Raises `ValueError` for a frame that is not 512 samples of 16 kHz."""
        if frame.rate_hz != SPEECH_RATE_HZ or frame.samples != self.frame_samples:
            raise ValueError(
                f"{frame.samples} samples of {frame.rate_hz} Hz, not {self.frame_samples} of 16 kHz"
            )
        samples = np.frombuffer(frame.pcm, "<i2") / 32_768
        dbfs = 10 * math.log10(float(np.mean(samples**2)) + 1e-12)
        return min(1.0, max(0.0, (dbfs - _SILENT_DBFS) / (_LOUD_DBFS - _SILENT_DBFS)))


def _peak(frame: PcmFrame) -> int:
    return int(np.abs(np.frombuffer(frame.pcm, "<i2").astype(np.int32)).max(initial=0))
