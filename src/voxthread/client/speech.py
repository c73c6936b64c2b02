"""Something to say, as PCM: from a WAV of any rate and channels, or spoken by a voice on this machine."""

import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
from anyio import to_thread

from voxthread.client.failures import SpeechError
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.model_lock import read_lock

CALL_RATE_HZ = SPEECH_RATE_HZ
"""Rate of all PCM of a call, both ways: wideband, which is what whoever listens to speech gets."""

VoiceName = Literal["auto", "espeak", "piper"]

MAX_SPEECH_SECONDS = 600
_SYNTHESIS_TIMEOUT_SECONDS = 60


def load_wav(source: Path | io.BytesIO) -> PcmFrame:
    """Read an audio file as mono at `CALL_RATE_HZ`. Raises `SpeechError`."""
    name = source if isinstance(source, Path) else "the voice's output"
    try:
        with soundfile.SoundFile(source) as file:
            if file.frames > MAX_SPEECH_SECONDS * file.samplerate:
                raise SpeechError("speech.too_long", f"{name} is longer than {MAX_SPEECH_SECONDS} s")
            samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
            rate_hz = file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        raise SpeechError("speech.unreadable", f"{name} is not an audio file: {error}") from None
    if not samples.size:
        raise SpeechError("speech.empty", f"{name} holds no audio")
    samples = soxr.resample(samples, rate_hz, CALL_RATE_HZ)
    pcm = np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype("<i2").tobytes()
    return PcmFrame(pcm=pcm, rate_hz=CALL_RATE_HZ)


async def speak(text: str, *, voice: VoiceName = "auto", models_dir: Path | None = None) -> PcmFrame:
    """Speak a text: `auto` is the bundled Piper voice where it was pulled, else espeak-ng.

    Either runs in a process of its own. Raises `SpeechError`.
    """
    if not text.strip():
        raise SpeechError("speech.empty", "there is no text to say")
    command = _voice_command(voice, models_dir)
    return await to_thread.run_sync(_synthesize, command, text)


def _voice_command(voice: VoiceName, models_dir: Path | None) -> Sequence[str]:
    """Speech-to-text understands the bundled voice better than espeak-ng, as it does people."""
    model = None if models_dir is None else models_dir / read_lock().path_of("piper_voice")
    if voice != "espeak" and model is not None and model.is_file():
        return (sys.executable, "-m", "piper", "--model", str(model), "--output-file", "-")
    espeak = shutil.which("espeak-ng")
    if voice != "piper" and espeak:
        return (espeak, "-v", "en-us", "-s", "150", "--stdin", "--stdout")
    raise SpeechError(
        "speech.no_voice",
        f"there is no voice to speak with ({voice}): run `voxthread models pull`, install espeak-ng, "
        "or say a WAV file",
    )


def _synthesize(command: Sequence[str], text: str) -> PcmFrame:
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=_SYNTHESIS_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SpeechError("speech.voice_failed", f"{command[0]} could not speak: {error}") from None
    return load_wav(_sized(done.stdout))


def _sized(wav: bytes) -> io.BytesIO:
    """A WAV written to a pipe has no lengths in its header; fill them in."""
    data = wav.find(b"data")
    if wav[:4] != b"RIFF" or data < 0:
        return io.BytesIO(wav)
    patched = bytearray(wav)
    patched[4:8] = (len(wav) - 8).to_bytes(4, "little")
    patched[data + 4 : data + 8] = (len(wav) - data - 8).to_bytes(4, "little")
    return io.BytesIO(bytes(patched))
