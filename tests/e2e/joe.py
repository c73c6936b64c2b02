"""Joe, the bundled Piper voice, as a caller."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from voxthread.core.audio import PcmFrame
from voxthread.engines.models import ModelFiles
from voxthread.engines.tts.piper import open_piper


async def say_by_joe(models: ModelFiles, lines: Sequence[str]) -> list[PcmFrame]:
    """One frame for each line, in Piper's rate."""
    async with open_piper(models) as joe:
        await joe.ready()
        return [_joined([frame async for frame in joe.synthesize(line)]) for line in lines]


def write_wav(path: Path, speech: Sequence[PcmFrame], *, pauses_ms: Sequence[int]) -> Path:
    """Write the frames one after the other, each behind its pause."""
    rate_hz = speech[0].rate_hz
    parts = [
        part
        for pause_ms, frame in zip(pauses_ms, speech, strict=True)
        for part in (np.zeros(pause_ms * rate_hz // 1000, "<i2"), np.frombuffer(frame.pcm, "<i2"))
    ]
    soundfile.write(path, np.concatenate(parts), rate_hz, subtype="PCM_16")
    return path


def _joined(frames: Sequence[PcmFrame]) -> PcmFrame:
    return PcmFrame(pcm=b"".join(frame.pcm for frame in frames), rate_hz=frames[0].rate_hz)
