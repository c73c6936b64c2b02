"""Sound as numbers: mono floats of 16 kHz, from -1 to 1."""

import numpy as np
import soxr

from voxthread.client.levels import loud_span
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.pcm import FloatSamples, to_float

_SPEECH_LEVEL = 10 ** (-23 / 20)
"""RMS of everything said, as telephone sets aim at; every voice is as loud as the other."""

_FLOOR_LEVEL = 10 ** (-65 / 20)
"""RMS of the quiet: no room and no microphone is silent."""

_FADE_SAMPLES = SPEECH_RATE_HZ * 5 // 1000
_CUT_SAMPLES = SPEECH_RATE_HZ * 20 // 1000
_CUT_SEARCH_SAMPLES = SPEECH_RATE_HZ * 80 // 1000
_SPECTRUM_START_HZ = 50.0


def samples_of(ms: int) -> int:
    return ms * SPEECH_RATE_HZ // 1000


def silence(ms: int) -> FloatSamples:
    return np.zeros(samples_of(ms), np.float32)


def to_pcm(samples: FloatSamples) -> bytes:
    return np.clip(np.rint(samples * 32_767), -32_768, 32_767).astype("<i2").tobytes()


def spoken(frame: PcmFrame) -> FloatSamples:
    """From the first to the last sound of a synthesis, at the level of speech."""
    samples = soxr.resample(to_float(frame.pcm), frame.rate_hz, SPEECH_RATE_HZ)
    samples *= _SPEECH_LEVEL / _rms(_loud(samples))
    return trimmed(samples)


def trimmed(samples: FloatSamples) -> FloatSamples:
    """The span above -50 dBFS."""
    span = loud_span(to_pcm(samples))
    return samples if span is None else samples[span.first : span.last + 1]


def quietest_near(samples: FloatSamples, place: int) -> int:
    """The middle of the quietest 20 ms within 80 ms of a place."""
    start = max(0, place - _CUT_SEARCH_SAMPLES)
    stretch = samples[start : place + _CUT_SEARCH_SAMPLES].astype(np.float64) ** 2
    energy_before = np.concatenate(([0.0], np.cumsum(stretch)))
    energy = energy_before[_CUT_SAMPLES:] - energy_before[:-_CUT_SAMPLES]
    return start + int(energy.argmin()) + _CUT_SAMPLES // 2


def paused(samples: FloatSamples, place: int, pause_ms: int) -> FloatSamples:
    """Silence cut in at a place, without a click."""
    fade = np.linspace(1.0, 0.0, _FADE_SAMPLES, dtype=np.float32)
    before, after = samples[:place].copy(), samples[place:].copy()
    before[-_FADE_SAMPLES:] *= fade
    after[:_FADE_SAMPLES] *= fade[::-1]
    return np.concatenate((before, silence(pause_ms), after))


def joined(pieces: list[FloatSamples], pauses_ms: list[int]) -> FloatSamples:
    """Pieces with a pause after each but the last."""
    parts: list[FloatSamples] = []
    for piece, pause_ms in zip(pieces, [*pauses_ms, 0], strict=True):
        parts += [piece, silence(pause_ms)]
    return np.concatenate(parts)


def floor(seconds: float, chance: np.random.Generator) -> FloatSamples:
    return _at_level(pink(seconds, chance), _FLOOR_LEVEL)


def white(seconds: float, chance: np.random.Generator) -> FloatSamples:
    return chance.standard_normal(int(seconds * SPEECH_RATE_HZ)).astype(np.float32)


def pink(seconds: float, chance: np.random.Generator) -> FloatSamples:
    """Noise of equal power in every octave."""
    spectrum = np.fft.rfft(white(seconds, chance))
    hz = np.fft.rfftfreq(int(seconds * SPEECH_RATE_HZ), 1 / SPEECH_RATE_HZ)
    spectrum /= np.sqrt(np.maximum(hz, _SPECTRUM_START_HZ))
    return np.fft.irfft(spectrum, int(seconds * SPEECH_RATE_HZ)).astype(np.float32)


def babble(seconds: float, voices: list[FloatSamples], chance: np.random.Generator) -> FloatSamples:
    """Many at once, each somewhere else in what they say and saying it over and over."""
    length = int(seconds * SPEECH_RATE_HZ)
    mixed = np.zeros(length, np.float32)
    for voice in voices:
        mixed += np.resize(np.roll(voice, int(chance.integers(len(voice)))), length)
    return mixed


def under_speech(noise: FloatSamples, snr_db: int) -> FloatSamples:
    """Noise so far below the level of speech."""
    return _at_level(noise, _SPEECH_LEVEL * 10 ** (-snr_db / 20))


def _at_level(samples: FloatSamples, level: float) -> FloatSamples:
    return (samples * np.float32(level / _rms(samples))).astype(np.float32)


def _rms(samples: FloatSamples) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) or 1.0


def _loud(samples: FloatSamples) -> FloatSamples:
    """What of speech counts for its level: pauses do not."""
    return samples[np.abs(samples) > 0.01]
