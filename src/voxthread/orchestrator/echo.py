"""Whether what starts in the caller's microphone is the agent's own voice come back.

An echo is what was said, late, quieter and coloured by a loudspeaker and a room: its waveform correlates with
what was said, wherever in the last 1.5 s that was. Another voice does not, whatever it says. Both sides are
brightened (first difference) before they are compared: low harmonics of any two voices resemble one another.

Highest normalised cross-correlation within the lags searched, 256 ms of microphone through Opus, bundled voice
as agent; the other speaker is one of six voices, one of them the agent's own:

    echo at -10 and -20 dB, delayed by 60 to 900 ms       0.55 to 0.98   (353 windows)
    the same from a small loudspeaker (350 to 5,000 Hz)   0.64 to 0.98   (265)
    the same, and a room louder than the direct sound     0.26 to 0.88, median 0.53   (339)
    somebody else speaks, no echo                         0.03 to 0.43, 99 % under 0.38   (996)
    somebody else over an echo at -10 dB, for 128 ms      95 % under 0.41   (60)
                                          for 256 ms      95 % under 0.35   (60)

So `ECHO_LIKENESS` lets everybody else's speech through and knows an echo unless a room smears it; speech over
an echo is noticed once it outweighs the echo, some 100 ms after it would have been without one.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxthread.core.audio import PACKET_MS, SPEECH_RATE_HZ
from voxthread.orchestrator.ports import OpusDecoder

ECHO_LIKENESS = 0.45

WINDOW_MS = 256
"""How much of the microphone is compared: in less, two voices look alike by chance more often."""

_LONGEST_DELAY_MS = 1_600
"""From a packet's being played to its coming back, with the age of the report that it was played."""

_AHEAD_MS = 300
"""What may have been played since the last report, which come each 200 ms."""

_REFERENCE_MS = _LONGEST_DELAY_MS + WINDOW_MS + _AHEAD_MS
"""Its 34,496 samples are a product of small primes, which the FFT likes: 1 ms of CPU."""

_KEPT_PACKETS = 250
"""5 s: what media may still have to play, and what may still come back."""

_BYTES_PER_MS = SPEECH_RATE_HZ // 1000 * 2
_REFERENCE_SAMPLES = _REFERENCE_MS * SPEECH_RATE_HZ // 1000

_QUIET = 0.01
"""Of the loudest stretch's energy: what is quieter counts as that loud, or its noise would match anything."""

_DISTINCT = 5.0
"""The peak against the root mean square over all lags. Of echoes it is 8 and more; a tone, which is like itself
whenever it sounds, stays under 4, so that one who whistles what the agent whistled is no echo."""


class OwnVoice:
    """The newest of one reply, as the caller hears it. Nothing is decoded until somebody asks."""

    def __init__(self) -> None:
        self._undecoded: deque[bytes] = deque(maxlen=_KEPT_PACKETS)
        self._made_ms = 0
        self._decoded = bytearray(WINDOW_MS * _BYTES_PER_MS)
        """s16le, 16 kHz; the silence before the reply is part of what is compared."""
        self._played: tuple[int, int] | None = None

    def made(self, packets: Sequence[bytes], end_ms: int) -> None:
        """Packets of `PACKET_MS` that end at `end_ms` of the reply, sent by this owner or by one before."""
        self._undecoded.extend(packets)
        self._made_ms = end_ms

    def played(self, played_ms: int, heard_ms: int) -> None:
        """`played_ms` of the reply had been played when `heard_ms` of the caller had been heard."""
        self._played = played_ms, heard_ms

    def is_in(self, heard: bytes, heard_ms: int, decoder: OpusDecoder) -> bool:
        """Whether the caller's newest `WINDOW_MS` (s16le, 16 kHz), up to `heard_ms`, are an echo.

        `decoder` hears nobody but the agent.

        False whenever that cannot be known: nothing is being played, or an owner that is gone had made it.
        """
        if self._played is None:
            return False
        played_ms, reported_ms = self._played
        if heard_ms - reported_ms > _LONGEST_DELAY_MS:
            return False
        self._decode_around(played_ms, decoder)
        return likeness(heard, bytes(self._decoded)) >= ECHO_LIKENESS

    def _decode_around(self, played_ms: int, decoder: OpusDecoder) -> None:
        """What is passed over or was decoded long ago does no harm: nothing that is heard now is like it."""
        next_ms = self._made_ms - len(self._undecoded) * PACKET_MS
        while self._undecoded and next_ms < played_ms + _AHEAD_MS:
            packet = self._undecoded.popleft()
            next_ms += PACKET_MS
            if next_ms > played_ms + _AHEAD_MS - _REFERENCE_MS:
                self._decoded += decoder.decode(packet)
        del self._decoded[: -_REFERENCE_MS * _BYTES_PER_MS]


def likeness(heard: bytes, said: bytes) -> float:
    """0 to 1: how much `heard` is like the stretch of `said` it is most like; both s16le of 16 kHz.

    0 where no stretch stands out. `said` is not longer than the reference kept.
    """
    microphone, reference = _brightened(heard), _brightened(said)
    lags = len(reference) - len(microphone) + 1
    if lags < 1:
        return 0.0
    spectrum = np.fft.rfft(reference, _REFERENCE_SAMPLES)
    spectrum *= np.fft.rfft(microphone, _REFERENCE_SAMPLES).conj()
    products = np.abs(np.fft.irfft(spectrum, _REFERENCE_SAMPLES)[:lags])
    energy_before = np.concatenate(([0.0], np.cumsum(reference**2)))
    energies = energy_before[len(microphone) :] - energy_before[:lags]
    loudest, own = float(energies.max()), float(np.sum(microphone**2))
    if not loudest or not own:
        return 0.0
    alike = products / np.sqrt(np.maximum(energies, loudest * _QUIET) * own)
    peak = float(alike.max())
    return peak if peak >= _DISTINCT * float(np.sqrt(np.mean(alike**2))) else 0.0


def _brightened(pcm: bytes) -> NDArray[np.float64]:
    return np.diff(np.frombuffer(pcm, "<i2").astype(np.float64))
