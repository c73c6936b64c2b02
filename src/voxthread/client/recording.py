"""A call as a stereo WAV on one timeline: the caller left, the agent right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from voxthread.client.failures import SpeechError
from voxthread.client.mouth import Spoken
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.client.utterance import PACKET_SAMPLES
from voxthread.core.audio import PACKET_MS

_JITTER_US = 60_000
"""A packet of a running stream that is less late than this is played where it belongs, not where it came."""


class Track:
    """One side's audio as it was played. Instants are Unix microseconds."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, bytes]] = []
        """Start and s16le samples of each part; parts do not overlap."""
        self._end_us = 0

    def add(self, pcm: bytes, at_us: int, *, follows: bool) -> None:
        """Play `pcm` at an instant, or right behind what is playing if it `follows` it or comes early."""
        if not (follows and at_us - self._end_us < _JITTER_US):
            at_us = max(at_us, self._end_us)
        else:
            at_us = self._end_us
        self.parts.append((at_us, pcm))
        self._end_us = at_us + len(pcm) // 2 * 1_000_000 // CALL_RATE_HZ


def track_of(spoken: Sequence[Spoken]) -> Track:
    """What a caller said, each utterance from the instant its first packet began to fill."""
    track = Track()
    for said in spoken:
        if said.sent_us:
            pcm = said.utterance.speech.pcm[: 2 * PACKET_SAMPLES * len(said.sent_us)]
            track.add(pcm, said.sent_us[0] - PACKET_MS * 1000, follows=False)
    return track


def mix(caller: Track, agent: Track) -> npt.NDArray[np.int16]:
    """Both tracks as int16 of shape (samples, 2) at `CALL_RATE_HZ`, from the first part of either."""
    parts = [(channel, *part) for channel, track in enumerate((caller, agent)) for part in track.parts]
    if not parts:
        return np.zeros((0, 2), dtype=np.int16)
    origin_us = min(at_us for _, at_us, _ in parts)
    placed = [
        (channel, (at_us - origin_us) * CALL_RATE_HZ // 1_000_000, np.frombuffer(pcm, dtype="<i2"))
        for channel, at_us, pcm in parts
    ]
    stereo = np.zeros((max(start + samples.size for _, start, samples in placed), 2), dtype=np.int16)
    for channel, start, samples in placed:
        stereo[start : start + samples.size, channel] = samples
    return stereo


def write_recording(path: Path, caller: Track, agent: Track) -> None:
    """Raises `SpeechError`."""
    try:
        soundfile.write(path, mix(caller, agent), CALL_RATE_HZ, subtype="PCM_16")
    except (OSError, soundfile.SoundFileError, TypeError) as error:
        raise SpeechError("speech.unwritable", f"{path} cannot be written: {error}") from None
