"""The audio of one utterance on its way to text, in bounded memory."""

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.failures import TranscriptionError
from voxthread.engines.pcm import FloatSamples, to_float
from voxthread.engines.stt.windows import LONGEST_PIECE_SAMPLES, quietest_cut

_SAMPLE_BYTES = 2


class UtteranceAudio:
    """Collects frames; keeps the text of what is already decided and the audio of what is not.

    At most 29 s of audio is kept: when it is full, `take_piece` gives away its first 22-28 s, cut in a pause.
    """

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._settled_text = ""
        self.total_samples = 0
        self.end_ms = 0

    @property
    def is_full(self) -> bool:
        return len(self._pcm) // _SAMPLE_BYTES >= LONGEST_PIECE_SAMPLES

    @property
    def samples(self) -> FloatSamples:
        """What is not yet decided, at most 29 s unless full."""
        return to_float(bytes(self._pcm))

    def append(self, frame: PcmFrame) -> None:
        """Raises `TranscriptionError` for a frame that is not 16 kHz."""
        if frame.rate_hz != SPEECH_RATE_HZ:
            raise TranscriptionError("stt.wrong_rate", f"speech-to-text hears 16 kHz, not {frame.rate_hz} Hz")
        self._pcm += frame.pcm
        self.total_samples += frame.samples
        self.end_ms = frame.end_ms

    def take_piece(self) -> FloatSamples:
        """Cut off the first piece of a full utterance; its text goes to `settle`."""
        samples = self.samples
        cut = quietest_cut(samples)
        del self._pcm[: cut * _SAMPLE_BYTES]
        return samples[:cut]

    def settle(self, text: str) -> None:
        self._settled_text = _joined(self._settled_text, text)

    def whole_text(self, text: str) -> str:
        """`text` of `samples` after that of the pieces before."""
        return _joined(self._settled_text, text)


def _joined(before: str, after: str) -> str:
    return f"{before} {after}".strip()
