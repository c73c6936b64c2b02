"""Speech for tests, made by espeak-ng when they run, and the bundled models that hear it."""

import io
import subprocess
from collections.abc import Iterable
from functools import cache
from typing import Any, NoReturn, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from voxthread.config import read_config
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.failures import ModelFileError
from voxthread.engines.models import ModelFiles, verify

FRAME_SAMPLES = 512

Samples = NDArray[np.float32]


class SkipLoudly(Protocol):
    def __call__(self, what: str, reason: str) -> NoReturn: ...


def bundled_models(skip_loudly: SkipLoudly) -> ModelFiles:
    try:
        return verify(read_config().models_dir)
    except ModelFileError as error:
        skip_loudly("models", error.detail)


def need_espeak(skip_loudly: SkipLoudly) -> None:
    try:
        say("ready")
    except FileNotFoundError:
        skip_loudly("espeak-ng", "not installed, so there is nobody to speak")


@cache
def say(text: str, voice: str = "en-gb") -> Samples:
    """16 kHz speech between 0.2 s of silence."""
    command = ["espeak-ng", "-v", voice, "--stdout", text]
    wav = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    spoken, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32")
    silence = np.zeros(SPEECH_RATE_HZ // 5, dtype=np.float32)
    return np.concatenate((silence, soxr.resample(spoken, rate_hz, SPEECH_RATE_HZ), silence))


def frame_of(samples: NDArray[Any], *, start_ms: int = 0, rate_hz: int = SPEECH_RATE_HZ) -> PcmFrame:
    pcm = (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
    return PcmFrame(pcm=pcm, rate_hz=rate_hz, start_ms=start_ms)


def frames_of(samples: NDArray[Any], *, start_ms: int = 0) -> Iterable[PcmFrame]:
    """Whole 32 ms frames; a rest is left out."""
    for start in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        at_ms = start_ms + start * 1000 // SPEECH_RATE_HZ
        yield frame_of(samples[start : start + FRAME_SAMPLES], start_ms=at_ms)
