"""How much audio Whisper is given at a time."""

import numpy as np

from voxthread.core.audio import SPEECH_RATE_HZ
from voxthread.engines.pcm import FloatSamples

FULL_WINDOW_SAMPLES = 30 * SPEECH_RATE_HZ
"""What the model was trained on, and the most it can take."""

LONGEST_PIECE_SAMPLES = 29 * SPEECH_RATE_HZ
"""Speech and at least 1 s of silence fit the full window."""

_LEAST_WINDOW_SAMPLES = 5 * SPEECH_RATE_HZ
_SILENCE_AFTER_SAMPLES = SPEECH_RATE_HZ
_STEP_SAMPLES = 320
"""One encoder position, 20 ms."""

_CUT_FROM_SAMPLES = 22 * SPEECH_RATE_HZ
_CUT_TO_SAMPLES = 28 * SPEECH_RATE_HZ
_PAUSE_SAMPLES = SPEECH_RATE_HZ // 5


def short_window_samples(speech_samples: int) -> int:
    """The speech and 1 s more, at least 5 s: best of the pads (0.5-3 s) and windows (2-6 s) tried."""
    wanted = max(_LEAST_WINDOW_SAMPLES, speech_samples + _SILENCE_AFTER_SAMPLES)
    return min(FULL_WINDOW_SAMPLES, -(-wanted // _STEP_SAMPLES) * _STEP_SAMPLES)


def quietest_cut(samples: FloatSamples) -> int:
    """Where to cut a piece too long for one window: in the quietest 200 ms between 22 s and 28 s.

    `samples` are at least 28 s.
    """
    stretch = samples[_CUT_FROM_SAMPLES:_CUT_TO_SAMPLES].astype(np.float64)
    energy_before = np.concatenate(([0.0], np.cumsum(stretch**2)))
    pause_energy = energy_before[_PAUSE_SAMPLES:] - energy_before[:-_PAUSE_SAMPLES]
    return _CUT_FROM_SAMPLES + int(pause_energy.argmin()) + _PAUSE_SAMPLES // 2
