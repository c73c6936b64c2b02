"""Who speaks in the set: the bundled voice with noise and speeds of its own, and voices of espeak-ng.

All are deterministic: the same voice says the same text with the same samples every time.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from anyio import to_thread

from voxthread.client.failures import SpeechError
from voxthread.client.speech import load_wav
from voxthread.core.audio import PcmFrame
from voxthread.engines.model_lock import read_lock
from voxthread.engines.models import ModelFiles
from voxthread.engines.pcm import FloatSamples
from voxthread.engines.tts.fixed_noise import SEED
from voxthread.engines.tts.piper import PiperTextToSpeech, open_piper
from voxthread.engines.tts.voice_split import split_voice
from voxthread.turn_bench.sounds import spoken

_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class PiperVoice:
    """The bundled voice: `seed` makes its noise, and `length_scale` above 1 slows it down."""

    seed: int
    length_scale: float

    @property
    def name(self) -> str:
        return f"piper seed {self.seed} x{self.length_scale}"


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    voice: str
    words_per_minute: int

    @property
    def name(self) -> str:
        return f"espeak-ng {self.voice} {self.words_per_minute}"


Voice = PiperVoice | EspeakVoice

AGENT = PiperVoice(SEED, 1.0)
TUNED = (PiperVoice(SEED, 1.0), EspeakVoice("en-us", 150), PiperVoice(2, 0.88), EspeakVoice("en-gb+f3", 165))
HELD_OUT = (PiperVoice(5, 1.12), EspeakVoice("en-gb-x-rp+m3", 158))
"""Whoever tunes never listens to these."""


class Speaker(Protocol):
    async def say(self, text: str) -> FloatSamples:
        """From the first to the last sound. Raises `SpeechError`, `SynthesisError`."""
        ...


@asynccontextmanager
async def open_speakers(voices: Iterable[Voice], files: ModelFiles) -> AsyncIterator[dict[Voice, Speaker]]:
    """Raises `SpeechError` where espeak-ng is not installed."""
    with tempfile.TemporaryDirectory(prefix="voxthread-voices-") as scratch:
        async with AsyncExitStack() as stack:
            speakers: dict[Voice, Speaker] = {}
            for number, voice in enumerate(voices):
                if isinstance(voice, EspeakVoice):
                    speakers[voice] = _EspeakSpeaker(voice)
                else:
                    directory = Path(scratch) / str(number)
                    own = await to_thread.run_sync(_made, voice, files, directory)
                    speakers[voice] = _PiperSpeaker(await stack.enter_async_context(open_piper(own)))
            yield speakers


def _made(voice: PiperVoice, files: ModelFiles, directory: Path) -> ModelFiles:
    """The bundled voice's files, those that differ written anew."""
    directory.mkdir()
    config = directory / "voice.json"
    settings = json.loads(files.piper_config.read_text("utf-8"))
    settings["inference"]["length_scale"] = voice.length_scale
    config.write_text(json.dumps(settings), "utf-8")
    if voice.seed == SEED:
        return replace(files, piper_config=config)
    encoder, decoder = directory / "encoder.onnx", directory / "decoder.onnx"
    split_voice(files.piper_voice, read_lock().split.cut, encoder=encoder, decoder=decoder, seed=voice.seed)
    return replace(files, piper_config=config, piper_encoder=encoder, piper_decoder=decoder)


class _PiperSpeaker:
    def __init__(self, tts: PiperTextToSpeech) -> None:
        self._tts = tts

    async def say(self, text: str) -> FloatSamples:
        frames = [frame async for frame in self._tts.synthesize(text)]
        pcm = b"".join(frame.pcm for frame in frames)
        return spoken(PcmFrame(pcm=pcm, rate_hz=frames[0].rate_hz))


class _EspeakSpeaker:
    def __init__(self, voice: EspeakVoice) -> None:
        espeak = shutil.which("espeak-ng")
        if espeak is None:
            raise SpeechError("speech.no_voice", "the set is spoken by espeak-ng too: install espeak-ng")
        self._command = (espeak, "-v", voice.voice, "-s", str(voice.words_per_minute), "-w")

    async def say(self, text: str) -> FloatSamples:
        return spoken(await to_thread.run_sync(self._synthesize, text))

    def _synthesize(self, text: str) -> PcmFrame:
        with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
            try:
                subprocess.run((*self._command, wav.name, text), timeout=_TIMEOUT_S, check=True)
            except (OSError, subprocess.SubprocessError) as error:
                raise SpeechError("speech.voice_failed", f"espeak-ng could not speak: {error}") from None
            return load_wav(Path(wav.name))
