"""Speech segmentation: probabilities per frame in, starts and stops of speech out, counted in audio time."""

from dataclasses import dataclass

from voxthread.core.inputs import SpeechContinued, SpeechPaused, SpeechStarted, SpeechStopped

Edge = SpeechStarted | SpeechPaused | SpeechContinued | SpeechStopped


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPolicy:
    threshold: float = 0.5
    """Probability from which a frame is speech."""
    release: float = 0.35
    """Probability below which speech has paused; between the two a frame is what the last one was."""
    start_ms: int = 96
    """Speech needed to start; shorter bursts are clicks."""
    pause_ms: int = 96
    """Silence in which it is worth asking the models what they would make of a stop; `stop_ms` never asks."""
    stop_ms: int = 192
    """Silence needed to stop."""


class SpeechSegmenter:
    """Two thresholds and two durations; feed it every frame of a session in order."""

    __slots__ = ("_is_paused", "_is_speaking", "_policy", "_run_ms", "_was_voiced")

    def __init__(self, policy: SpeechPolicy) -> None:
        self._policy = policy
        self._is_speaking = False
        self._is_paused = False
        self._was_voiced = False
        self._run_ms = 0

    @property
    def is_speaking(self) -> bool:
        return self._is_speaking

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    def assume(self, *, is_speaking: bool, is_paused: bool = False) -> None:
        """Go on from what another segmenter had found, whatever this one made of the same frames."""
        self._is_speaking, self._is_paused = is_speaking, is_paused
        self._was_voiced = is_speaking and not is_paused
        self._run_ms = self._policy.pause_ms if is_paused else 0

    def feed(self, probability: float, frame_ms: int) -> Edge | None:
        """`_run_ms` counts how long the frames have contradicted the present state."""
        voiced = probability >= (self._policy.release if self._was_voiced else self._policy.threshold)
        self._was_voiced = voiced
        self._run_ms = self._run_ms + frame_ms if voiced != self._is_speaking else 0
        if self._is_speaking:
            return self._listen_for_stop()
        if self._run_ms >= self._policy.start_ms:
            return self._flip(SpeechStarted(speech_ms=self._run_ms))
        return None

    def _listen_for_stop(self) -> Edge | None:
        if self._run_ms >= self._policy.stop_ms:
            return self._flip(SpeechStopped(silence_ms=self._run_ms))
        if not self._is_paused and self._run_ms >= self._policy.pause_ms:
            self._is_paused = True
            return SpeechPaused(silence_ms=self._run_ms)
        if self._is_paused and not self._run_ms:
            self._is_paused = False
            return SpeechContinued()
        return None

    def _flip(self, edge: Edge) -> Edge:
        self._is_speaking = not self._is_speaking
        self._is_paused = False
        self._run_ms = 0
        return edge
