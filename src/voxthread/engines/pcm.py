"""From the samples frames carry to the samples models take."""

import numpy as np
from numpy.typing import NDArray

FloatSamples = NDArray[np.float32]
"""Mono samples from -1 to 1, shape (samples,)."""

_FULL_SCALE = 32_768


def to_float(pcm: bytes) -> FloatSamples:
    """s16le bytes as floats from -1 to 1."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
