"""Speech segmentation: probabilities per frame in, starts and stops of speech out, counted in audio time."""

from dataclasses import dataclass

from voxthread.core.inputs import SpeechStarted, SpeechStopped


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPolicy:
    threshold: float = 0.5
    """Probability from which a frame is speech."""
    release: float = 0.35
    """Probability below which speech has paused; between the two a frame is what the last one was."""
    start_ms: int = 96
    """Speech needed to start; shorter bursts are clicks."""
    stop_ms: int = 192
    """Silence needed to stop."""


class SpeechSegmenter:
    """Two thresholds and two durations; feed it every frame of a session in order."""

    __slots__ = ("_is_speaking", "_policy", "_run_ms", "_was_voiced")

    def __init__(self, policy: SpeechPolicy) -> None:
        self._policy = policy
        self._is_speaking = False
        self._was_voiced = False
        self._run_ms = 0

    @property
    def is_speaking(self) -> bool:
        return self._is_speaking

    def assume(self, *, is_speaking: bool) -> None:
        """Go on from what another segmenter had found, whatever this one made of the same frames."""
        self._is_speaking = self._was_voiced = is_speaking
        self._run_ms = 0

    def feed(self, probability: float, frame_ms: int) -> SpeechStarted | SpeechStopped | None:
        """`_run_ms` counts how long the frames have contradicted the present state."""
        voiced = probability >= (self._policy.release if self._was_voiced else self._policy.threshold)
        self._was_voiced = voiced
        self._run_ms = self._run_ms + frame_ms if voiced != self._is_speaking else 0
        if not self._is_speaking and self._run_ms >= self._policy.start_ms:
            return self._flip(SpeechStarted(speech_ms=self._run_ms))
        if self._is_speaking and self._run_ms >= self._policy.stop_ms:
            return self._flip(SpeechStopped(silence_ms=self._run_ms))
        return None

    def _flip(self, edge: SpeechStarted | SpeechStopped) -> SpeechStarted | SpeechStopped:
        self._is_speaking = not self._is_speaking
        self._run_ms = 0
        return edge
