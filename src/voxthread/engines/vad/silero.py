"""Silero VAD v5: a recurrent network that tells speech from everything else, 32 ms at a time."""

from pathlib import Path

import numpy as np
import onnxruntime

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.onnx_session import open_onnx_session
from voxthread.engines.pcm import to_float

_FRAME_SAMPLES = 512
_CONTEXT_SAMPLES = 64
"""The model sees the end of the frame before (snakers4/silero-vad, `utils_vad.py`)."""

_STATE_SHAPE = (2, 1, 128)
_RATE = np.array(SPEECH_RATE_HZ, dtype=np.int64)

_RESET_AFTER_FRAMES = 2 * SPEECH_RATE_HZ // _FRAME_SAMPLES
_CLEARLY_NOT_SPEECH = 0.1
_QUIET_FRAMES_TO_RESET = 5

_SILENCE_PEAK = 0.003
"""-50 dBFS: nothing to transcribe. Where it goes on the network is not asked, half of what an idle call cost
its owner (1.9 % of a core of 4.3)."""


class SileroModel:
    """The loaded network, about 2 MB, shared by all sessions. Raises `ModelFileError`."""

    def __init__(self, path: Path) -> None:
        self._network = open_onnx_session(path)

    def open(self) -> "SileroVoiceActivity":
        """Speech detection for one session."""
        return SileroVoiceActivity(self._network)


class SileroVoiceActivity:
    """One session's recurrent state around the shared network.

    Music leaves the state slow to notice the speech that follows (up to 600 ms late after 20 s of synthetic
    music), so it is reset every 2 s while nobody speaks, and by silence: 160 ms clearly without speech are not
    inside a word.
    """

    def __init__(self, network: onnxruntime.InferenceSession) -> None:
        self._network = network
        self._state = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self._context = np.zeros((1, _CONTEXT_SAMPLES), dtype=np.float32)
        self._frames_since_reset = 0
        self._quiet_frames = 0

    @property
    def frame_samples(self) -> int:
        return _FRAME_SAMPLES

    def probability(self, frame: PcmFrame) -> float:
        """Raises `ValueError` for a frame that is not 512 samples of 16 kHz."""
        if frame.rate_hz != SPEECH_RATE_HZ or frame.samples != _FRAME_SAMPLES:
            raise ValueError(f"{frame.samples} samples of {frame.rate_hz} Hz, not {_FRAME_SAMPLES} of 16 kHz")
        samples = to_float(frame.pcm)
        if self._quiet_frames >= _QUIET_FRAMES_TO_RESET and np.abs(samples).max() < _SILENCE_PEAK:
            if self._frames_since_reset:
                self._reset()
            return 0.0
        window = np.concatenate((self._context, samples[None]), axis=1)
        output, self._state = self._network.run(None, {"input": window, "state": self._state, "sr": _RATE})
        self._context = window[:, -_CONTEXT_SAMPLES:]
        probability = float(output[0, 0])
        self._frames_since_reset += 1
        self._quiet_frames = self._quiet_frames + 1 if probability < _CLEARLY_NOT_SPEECH else 0
        if self._frames_since_reset >= _RESET_AFTER_FRAMES and self._quiet_frames >= _QUIET_FRAMES_TO_RESET:
            self._reset()
        return probability

    def _reset(self) -> None:
        self._state = np.zeros_like(self._state)
        self._context = np.zeros_like(self._context)
        self._frames_since_reset = 0
