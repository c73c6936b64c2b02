"""smart-turn v3: a network that hears from the melody of an utterance whether its speaker is done."""

from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.failures import TurnModelError
from voxthread.engines.features import log_mel
from voxthread.engines.onnx_session import open_onnx_session
from voxthread.engines.pcm import FloatSamples, to_float

_WINDOW_SAMPLES = 8 * SPEECH_RATE_HZ
_VARIANCE_FLOOR = 1e-7


class SmartTurn:
    """The loaded network, shared by all sessions. Raises `ModelFileError`.

    About 55 ms of one core however long the utterance is, one at a time, in a thread of its own.
    """

    def __init__(self, path: Path) -> None:
        self._network = open_onnx_session(path)
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def probability(self, audio: PcmFrame) -> float:
        if audio.rate_hz != SPEECH_RATE_HZ:
            raise TurnModelError(
                "turn.wrong_rate", f"the end-of-turn model hears 16 kHz, not {audio.rate_hz} Hz"
            )
        return await anyio.to_thread.run_sync(self.judge, audio.pcm, limiter=self._one_at_a_time)

    def judge(self, pcm: bytes) -> float:
        """`probability` of s16le at 16 kHz. Blocking. Raises `TurnModelError`."""
        features = log_mel(_normalised_window(to_float(pcm)))
        try:
            output = self._network.run(None, {"input_features": features[None]})[0]
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise TurnModelError("turn.inference", f"the end-of-turn model failed: {error}") from error
        return float(output[0, 0])


def _normalised_window(samples: FloatSamples) -> FloatSamples:
    """The last 8 s, silence *before* what is shorter, at mean 0 and variance 1 as in training."""
    tail = samples[-_WINDOW_SAMPLES:]
    window = np.pad(tail, (_WINDOW_SAMPLES - len(tail), 0))
    normalised: FloatSamples = (window - window.mean()) / np.sqrt(window.var() + np.float32(_VARIANCE_FLOOR))
    return normalised
