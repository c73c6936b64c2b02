"""Streaming sample-rate conversion of mono s16le."""

import numpy as np
import soxr
from numpy.typing import NDArray


class StreamResampler:
    """Converts a stream in pieces of any length, without a seam and without added delay.

    The filter looks ahead: up to 40 ms of what was given is held until more comes or the stream ends.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz = from_hz
        self._stream = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16")

    def convert(self, pcm: bytes, *, last: bool = False) -> bytes:
        """s16le at the new rate, as much as is ready; all of it if `last`, after which the stream is over."""
        if self._stream is None:
            return pcm
        converted: NDArray[np.int16] = self._stream.resample_chunk(np.frombuffer(pcm, "<i2"), last=last)
        return converted.astype("<i2").tobytes()
