"""A split Piper voice: phonemes to latent frames at once, latent frames to samples window by window.

The vocoder is convolutional, so a window with enough frames of context on each side gives the very samples
of the whole sentence: with 14 frames the difference is 124 dB down, with 8 it is 62 dB. The first window is
short for an early first sound; 60 frames (0.7 s) cost a fifth more than decoding all at once.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxthread.engines.onnx_session import open_onnx_session

FIRST_WINDOW_FRAMES = 24
WINDOW_FRAMES = 60
CONTEXT_FRAMES = 14
_SHORTEST_TAIL_FRAMES = 12

_GAIN = 1.2
"""The voice peaks at 0.45 to 0.83 of full scale. Normalising each sentence would need all of it first."""

Latent = NDArray[np.float32]
"""(1, channels, frames)"""


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `start` to `end` are wanted; `left` to `right` are decoded for them."""

    start: int
    end: int
    left: int
    right: int


def windows(frames: int) -> Iterator[Window]:
    """Cover `frames` frames, in order, each exactly once."""
    start, length = 0, FIRST_WINDOW_FRAMES
    while start < frames:
        end = min(frames, start + length)
        if frames - end < _SHORTEST_TAIL_FRAMES:
            end = frames
        yield Window(start, end, max(0, start - CONTEXT_FRAMES), min(frames, end + CONTEXT_FRAMES))
        start, length = end, WINDOW_FRAMES


class StreamingVoice:
    """The two halves of a voice and its settings. Raises `ModelFileError`."""

    def __init__(self, *, encoder: Path, decoder: Path, config: Path) -> None:
        self._encoder = open_onnx_session(encoder)
        self._decoder = open_onnx_session(decoder)
        self._latent_name: str = self._decoder.get_inputs()[0].name
        settings: dict[str, Any] = json.loads(config.read_text("utf-8"))
        inference = settings["inference"]
        self._scales = np.array(
            [inference["noise_scale"], inference["length_scale"], inference["noise_w"]], dtype=np.float32
        )
        self.rate_hz: int = settings["audio"]["sample_rate"]
        self.espeak_voice: str = settings["espeak"]["voice"]
        self.phoneme_ids: dict[str, list[int]] = settings["phoneme_id_map"]

    def encode(self, phoneme_ids: Sequence[int]) -> Latent:
        """Text and flow: the latent frames of one sentence, 256 samples each."""
        ids = np.array([phoneme_ids], dtype=np.int64)
        lengths = np.array([len(phoneme_ids)], dtype=np.int64)
        latent: Latent = self._encoder.run(
            None, {"input": ids, "input_lengths": lengths, "scales": self._scales}
        )[0]
        return latent

    def decode(self, latent: Latent, window: Window) -> NDArray[np.float32]:
        """The samples of a window, -1 to 1."""
        samples = self._decoder.run(None, {self._latent_name: latent[:, :, window.left : window.right]})[0]
        flat: NDArray[np.float32] = samples.reshape(-1)
        hop = len(flat) // (window.right - window.left)
        return flat[(window.start - window.left) * hop : (window.end - window.left) * hop]


def to_pcm(samples: NDArray[np.float32]) -> bytes:
    """s16le."""
    return bytes(np.clip(samples * (_GAIN * 32767.0), -32768.0, 32767.0).astype("<i2").tobytes())
