"""Our features against their definition, written down slowly in double precision."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from voxthread.engines.features import MEL_BANDS, log_mel
from voxthread.engines.pcm import to_float

pytestmark = pytest.mark.unit


def mel_of(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def hz_of(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)


@cache
def definition() -> tuple[NDArray[np.float64], NDArray[np.complex128], NDArray[np.float64]]:
    """The window, the discrete Fourier transform and the Slaney mel filters."""
    n = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    transform = np.exp(-2j * np.pi * np.outer(np.arange(201), n) / 400)
    edges_hz = [hz_of(mel) for mel in np.linspace(0, mel_of(8_000), MEL_BANDS + 2)]
    filters = np.zeros((MEL_BANDS, 201))
    for band, (low, peak, high) in enumerate(zip(edges_hz, edges_hz[1:], edges_hz[2:], strict=False)):
        for k in range(201):
            hz = k * 40
            slope = min((hz - low) / (peak - low), (high - hz) / (high - peak))
            filters[band, k] = max(0.0, slope) * 2 / (high - low)
    return hann, transform, filters


def slow_log_mel(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    hann, transform, filters = definition()
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    power = [
        np.abs(transform @ (padded[at : at + 400] * hann)) ** 2 for at in range(0, len(samples) - 159, 160)
    ]
    bands = np.log10(np.maximum(1e-10, filters @ np.array(power).T))
    return (np.maximum(bands, bands.max() - 8) + 4) / 4


SIGNALS = arrays(np.float32, st.integers(400, 3_000), elements=st.floats(-1, 1, width=16))


@given(samples=SIGNALS)
def test_features_are_what_whisper_was_trained_on(samples: NDArray[np.float32]) -> None:
    features = log_mel(samples)
    assert features.shape == (MEL_BANDS, len(samples) // 160)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, slow_log_mel(samples), atol=2e-3)


def test_a_voice_like_sound_differs_from_the_definition_by_rounding_only() -> None:
    time_s = np.arange(16_000) / 16_000
    samples = sum(np.sin(2 * np.pi * 130 * k * time_s) / k for k in range(1, 20)) * 0.1
    noisy = (samples + np.random.default_rng(0).normal(0, 0.003, 16_000)).astype(np.float32)
    np.testing.assert_allclose(log_mel(noisy), slow_log_mel(noisy), atol=2e-5)


def test_silence_is_flat() -> None:
    assert np.unique(log_mel(np.zeros(16_000, np.float32))).size == 1


def test_full_scale_is_one() -> None:
    assert to_float(b"\x00\x80\xff\x7f\x00\x00").tolist() == [-1.0, 32_767 / 32_768, 0.0]
