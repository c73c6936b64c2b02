"""A language model that says what it is told to, and a voice that hums: instant, deterministic, shipped.

model = ScriptedLanguageModel(["Good evening.", Failing(after_tokens=2)])
voice = ToneTextToSpeech()
"""

import math
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import anyio.lowlevel
import numpy as np

from voxthread.core.audio import PcmFrame
from voxthread.core.failures import LanguageModelError, SynthesisError
from voxthread.core.history import Message

_TOKEN = re.compile(r"\s*\S+|\s+")
_TONE_HZ = 440
_TONE_PEAK = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A reply or a synthesis that fails after `after_tokens` tokens or frames."""

    text: str = "This will never be heard to its end."
    after_tokens: int = 0
    retryable: bool = True


@dataclass(slots=True)
class ScriptedLanguageModel:
    """Says the replies of its script in order, word by word, and the last one again when it is at its end.

    `asked` holds the messages of every reply and `prefilled` those of every prefill; `closed_early` counts
    the replies whose iterator was closed before their end.
    """

    script: Sequence[str | Failing]
    asked: list[tuple[Message, ...]] = field(default_factory=list)
    prefilled: list[tuple[Message, ...]] = field(default_factory=list)
    closed_early: int = 0

    async def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        line = self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append(tuple(messages))
        failing = line if isinstance(line, Failing) else None
        tokens = _TOKEN.findall(line.text if isinstance(line, Failing) else line)
        try:
            for token in tokens if failing is None else tokens[: failing.after_tokens]:
                await anyio.lowlevel.checkpoint()
                yield token
        except GeneratorExit:
            self.closed_early += 1
            raise
        if failing is not None:
            raise LanguageModelError("llm.scripted", "the script says so", retryable=failing.retryable)

    async def prefill(self, messages: Sequence[Message]) -> None:
        self.prefilled.append(tuple(messages))


@dataclass(slots=True)
class ToneTextToSpeech:
    """Hums `ms_per_character` for each character of the text, in frames of `frame_ms`; a blank text is silent.

    Nothing but the text decides the samples. `failures` fail the first syntheses, in order; `spoken` holds
    every text, and `closed_early` counts the syntheses that were not listened to till their end.
    """

    ms_per_character: int = 60
    frame_ms: int = 100
    rate_hz: int = 22_050
    failures: Sequence[Failing | None] = ()
    spoken: list[str] = field(default_factory=list)
    closed_early: int = 0

    async def synthesize(self, text: str) -> AsyncIterator[PcmFrame]:
        failing = self.failures[len(self.spoken)] if len(self.spoken) < len(self.failures) else None
        self.spoken.append(text)
        duration_ms = len(text.strip()) * self.ms_per_character
        try:
            for number, start_ms in enumerate(range(0, duration_ms, self.frame_ms)):
                if failing is not None and number == failing.after_tokens:
                    break
                await anyio.lowlevel.checkpoint()
                yield self._hum(start_ms, min(duration_ms, start_ms + self.frame_ms))
        except GeneratorExit:
            self.closed_early += 1
            raise
        if failing is not None:
            raise SynthesisError("tts.scripted", "the script says so", retryable=failing.retryable)

    def _hum(self, start_ms: int, end_ms: int) -> PcmFrame:
        samples = np.arange(start_ms * self.rate_hz // 1000, end_ms * self.rate_hz // 1000)
        wave = _TONE_PEAK * np.sin(math.tau * _TONE_HZ / self.rate_hz * samples)
        return PcmFrame(pcm=wave.astype("<i2").tobytes(), rate_hz=self.rate_hz, start_ms=start_ms)
