"""A whole server on a real port, with shipped fakes for models, and callers that speak in numbers.

Caller n speaks, and is answered with, a tone of `tone_hz(n)`: whoever hears another one hears a wrong session.
"""

import math
import re
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from voxthread.app.http import bind, open_http, url_of
from voxthread.app.server import Server, open_server
from voxthread.config import Config
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.history import Message
from voxthread.core.transcripts import Flush, Transcript
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.orchestrator.ports import Agent, EndOfTurn, Engines, SpeechToText, TextToSpeech
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn

KEY = "a key of the tests, long enough for HS256"
BRISK: Mapping[str, Any] = {
    "vad_stop_ms": 96,
    "endpoint_ms": 200,
    "complete_endpoint_ms": 96,
    "likely_endpoint_ms": 96,
    "brief_endpoint_ms": 96,
    "open_endpoint_ms": 96,
    "dictated_endpoint_ms": 96,
    "dangling_endpoint_ms": 96,
    "incomplete_endpoint_ms": 400,
    "speculate": False,
}
"""Turns that end soon, for voices that never pause to think; and a script is not asked for what is not said."""

_LOWEST_HZ = 300.0
_STEP_HZ = 8.0
_TONE_RATE_HZ = 24_000
_TONES = 331
_STRIDE = 37
"""Numbers in a row get tones far apart: callers at the same time are never taken for one another by a click."""

_CLICK_TONES = 2
"""A piece with a join or a gap in it may sound so many tones off."""

_PEAK = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    url: str
    server: Server


@asynccontextmanager
async def running_server(engines: Engines, **sections: Any) -> AsyncIterator[Running]:
    """All roles on a free port of loopback; `sections` are those of the configuration."""
    http = {"port": 0, **sections.pop("http", {})}
    config = Config(http=http, **{"turn": BRISK, **sections})
    bound = bind(config.http)
    async with open_server(config, engines) as server, open_http(server.http, config.http, bound):
        yield Running(url=url_of(config.http, bound), server=server)


def engines(
    agent: Agent,
    *,
    stt: SpeechToText | None = None,
    tts: TextToSpeech | None = None,
    end_of_turn: EndOfTurn | None = None,
) -> Engines:
    return Engines(
        stt=stt or NumberEar(),
        tts=tts or NumberVoice(),
        end_of_turn=end_of_turn or ScriptedEndOfTurn(0.95),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents={"numbers": agent},
    )


def tone_hz(number: int) -> float:
    return _LOWEST_HZ + _STEP_HZ * (number * _STRIDE % _TONES)


def tone(number: int, duration_ms: int, *, rate_hz: int = SPEECH_RATE_HZ, start_ms: int = 0) -> PcmFrame:
    samples = np.arange(start_ms * rate_hz // 1000, (start_ms + duration_ms) * rate_hz // 1000)
    wave = _PEAK * np.sin(math.tau * tone_hz(number) / rate_hz * samples)
    return PcmFrame(pcm=wave.astype("<i2").tobytes(), rate_hz=rate_hz, start_ms=start_ms)


def numbers_in(pcm: bytes, *, piece_ms: int = 200) -> set[int]:
    """The numbers whose tones are in 16 kHz audio, whenever: one per loud piece of it."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    size = piece_ms * SPEECH_RATE_HZ // 1000
    pieces = [samples[start : start + size] for start in range(0, len(samples) - size + 1, size // 2)]
    loud = [piece for piece in pieces if all(np.abs(np.split(piece, 8)).max(axis=1) > 1_000)]
    tones: list[int] = []
    for tone_index, _ in Counter(_tone_index(piece) for piece in loud).most_common():
        if all(abs(tone_index - known) > _CLICK_TONES for known in tones):
            tones.append(tone_index)
    return {tone_index * pow(_STRIDE, -1, _TONES) % _TONES for tone_index in tones}


def _tone_index(piece: NDArray[np.float64]) -> int:
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 16 * len(piece)))
    hz = int(np.argmax(spectrum)) * SPEECH_RATE_HZ / (16 * len(piece))
    return round((hz - _LOWEST_HZ) / _STEP_HZ)


class NumberEar:
    """Understands a tone as its number, whoever speaks: `number 7`."""

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        heard, end_ms = bytearray(), 0
        async for item in audio:
            if isinstance(item, PcmFrame):
                heard += item.pcm
                end_ms = item.end_ms
            else:
                numbers = numbers_in(bytes(heard))
                text = " and ".join(f"number {number}" for number in sorted(numbers))
                yield Transcript(text=text, final=True, end_ms=end_ms)


class NumberVoice:
    """Speaks a text as the tone of each number in it, `spoken_ms` long each; a text without one is silent."""

    def __init__(self, spoken_ms: int = 600) -> None:
        self._spoken_ms = spoken_ms

    async def synthesize(self, text: str) -> AsyncIterator[PcmFrame]:
        for number in re.findall(r"\d+", text):
            for start_ms in range(0, self._spoken_ms, 100):
                await anyio.lowlevel.checkpoint()
                yield tone(int(number), 100, rate_hz=_TONE_RATE_HZ, start_ms=start_ms)


class NumberAgent:
    """Says the number it was told back."""

    greeting = ""

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        yield f"You are {utterance}."
